-- Counts of all threads: each has a Lua of its own, with its `number`, `admitted` and `refused` as globals.

local verdicts = {}
local threads = {}

-- Numbers a thread, from 1.
function verdicts.setup(thread)
  threads[#threads + 1] = thread
  thread:set("number", #threads)
end

-- One line: verdicts of both kinds, and how many a second.
function verdicts.print(summary)
  local admitted, refused = 0, 0
  for _, thread in ipairs(threads) do
    admitted = admitted + thread:get("admitted")
    refused = refused + thread:get("refused")
  end
  local per_s = (admitted + refused) / (summary.duration / 1e6)
  io.write(string.format("Check-ins/sec: %.0f (%d admitted, %d refused)\n", per_s, admitted, refused))
end

return verdicts
