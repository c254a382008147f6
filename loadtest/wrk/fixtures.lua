-- The fixtures file of `mastervip seed`, as much of it as scanners need, and request ids.
--
-- Rules:
-- 1. No JSON library is needed: the values that are looked for have neither quotes nor escapes in them, and a
--    scanner's token comes after the id of its event.
-- 2. A thread has one event, with all cards: they go in, one after the other, then out, and again. Where there are at
--    least as many events as threads, and more cards than connections, every scan is admitted.

local ffi = require("ffi")
ffi.cdef [[
  struct mastervip_timeval { long seconds; long microseconds; };
  int gettimeofday(struct mastervip_timeval *now, void *zone);
]]

local fixtures = {}
local now = ffi.new("struct mastervip_timeval")
local random = math.random

-- The random numbers of two threads must differ: each begins with bytes of the system's.
local function seed()
  local file = assert(io.open("/dev/urandom", "rb"))
  local a, b, c, d, e, f = file:read(6):byte(1, 6)
  file:close()
  math.randomseed(((((a * 256 + b) * 256 + c) * 256 + d) * 256 + e) * 256 + f)
end

-- A UUIDv7 (RFC 9562, 5.7): 48 bits of time in milliseconds, 74 random ones.
function fixtures.request_id()
  ffi.C.gettimeofday(now, nil)
  local ms = tonumber(now.seconds) * 1000 + math.floor(tonumber(now.microseconds) / 1000)
  return string.format(
    "%08x-%04x-7%03x-%x%03x-%06x%06x",
    math.floor(ms / 65536), ms % 65536, random(0, 4095), random(8, 11), random(0, 4095),
    random(0, 16777215), random(0, 16777215)
  )
end

-- Reads the file; returns the events, each with `id` and `tokens`, and the credentials.
function fixtures.read(path)
  local file, why = io.open(path, "r")
  if not file then
    io.stderr:write("no fixtures: " .. why .. "; run `mastervip seed --out FILE`, and give FILE after `--`\n")
    os.exit(1)
  end
  local text = file:read("*a")
  file:close()
  local events, credentials = {}, {}
  for key, value in text:gmatch('"([%w_]+)"%s*:%s*"([^"]*)"') do
    if key == "id" and value:sub(1, 4) == "evt_" then
      events[#events + 1] = { id = value, tokens = {} }
    elseif key == "token" then
      local tokens = events[#events].tokens
      tokens[#tokens + 1] = value
    elseif key == "credential" then
      credentials[#credentials + 1] = value
    end
  end
  assert(#events > 0 and #credentials > 0, path .. " has no events or no cards")
  return events, credentials
end

-- The guests of a thread: a function that gives event, token, credential and direction of the next scan.
function fixtures.guests(path, thread_number)
  seed()
  local events, credentials = fixtures.read(path)
  local event = events[(thread_number - 1) % #events + 1]
  local number = -1
  return function()
    number = number + 1
    local direction = math.floor(number / #credentials) % 2 == 0 and "entry" or "exit"
    local token = event.tokens[number % #event.tokens + 1]
    return event.id, token, credentials[number % #credentials + 1], direction
  end
end

return fixtures
