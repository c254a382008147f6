-- Uploads of scanners that were without a network: `ITEMS` check-ins a request, for the rate beyond one a request.
--
--   wrk -t2 -c8 -d10s --latency -s loadtest/wrk/batches.lua http://127.0.0.1:8080 -- fixtures.json
--
-- wrk's own rate is that of requests; the last line tells that of check-ins.

local here = debug.getinfo(1, "S").source:match("^@(.*/)") or ""
local fixtures = dofile(here .. "fixtures.lua")
local verdicts = dofile(here .. "verdicts.lua")

local ITEMS = 100
local next_guest

function setup(thread)
  verdicts.setup(thread)
end

function init(args)
  next_guest = fixtures.guests(args[1] or "fixtures.json", number)
end

function request()
  local items, token = {}, nil
  for item = 1, ITEMS do
    local event, own, credential, direction = next_guest()
    token = token or own
    items[item] = string.format(
      '{"event_id":"%s","credential":"%s","direction":"%s","scan_id":"%s"}',
      event, credential, direction, fixtures.request_id()
    )
  end
  local headers = { ["Authorization"] = "Bearer " .. token, ["Content-Type"] = "application/json" }
  return wrk.format("POST", "/v1/checkins:batch", headers, '{"items":[' .. table.concat(items, ",") .. "]}")
end

-- These are global: wrk reads them out of each thread at the end.
admitted, refused = 0, 0

function response(status, headers, body)
  admitted = admitted + select(2, body:gsub('"verdict": ?"admitted"', ""))
  refused = refused + select(2, body:gsub('"verdict": ?"refused"', ""))
end

function done(summary, latency, requests)
  verdicts.print(summary)
end
