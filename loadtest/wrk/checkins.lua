-- Check-ins over REST, as fast as wrk sends them: one scan a request.
--
--   wrk -t2 -c64 -d10s --latency -s loadtest/wrk/checkins.lua http://127.0.0.1:8080 -- fixtures.json
--
-- A refused scan is an answer and is counted as such; "Non-2xx or 3xx responses" and "Socket errors" are failures.

local here = debug.getinfo(1, "S").source:match("^@(.*/)") or ""
local fixtures = dofile(here .. "fixtures.lua")
local verdicts = dofile(here .. "verdicts.lua")

local next_guest

function setup(thread)
  verdicts.setup(thread)
end

function init(args)
  next_guest = fixtures.guests(args[1] or "fixtures.json", number)
end

function request()
  local event, token, credential, direction = next_guest()
  local body = string.format(
    '{"event_id":"%s","credential":"%s","direction":"%s","scan_id":"%s"}',
    event, credential, direction, fixtures.request_id()
  )
  local headers = { ["Authorization"] = "Bearer " .. token, ["Content-Type"] = "application/json" }
  return wrk.format("POST", "/v1/checkins", headers, body)
end

-- These are global: wrk reads them out of each thread at the end.
admitted, refused = 0, 0

function response(status, headers, body)
  if body:find('"verdict": ?"admitted"') then
    admitted = admitted + 1
  elseif body:find('"verdict": ?"refused"') then
    refused = refused + 1
  end
end

function done(summary, latency, requests)
  verdicts.print(summary)
end
