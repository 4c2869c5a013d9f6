-- Load for the rehearsal model: wrk -s rehearsal.lua URL -- text|schema
-- Prompts of 1 KB, all different: 512 bodies, made before the clock starts.

local BODIES = 512

local format = [[,"response_format":{"type":"json_schema","json_schema":{"name":"ticket","strict":true,]]
  .. [["schema":{"type":"object","additionalProperties":false,]]
  .. [["required":["summary","level","mood","tags","customer"],"properties":{]]
  .. [["summary":{"type":"string","maxLength":120},]]
  .. [["level":{"type":"integer","minimum":1,"maximum":5},]]
  .. [["mood":{"type":"string","enum":["calm","angry","worried"]},]]
  .. [["tags":{"type":"array","items":{"type":"string"},"minItems":1,"maxItems":3},]]
  .. [["customer":{"type":"object","additionalProperties":false,"required":["name","order"],]]
  .. [["properties":{"name":{"type":"string"},"order":{"type":"string","pattern":"^[A-Z]{2}-[0-9]{6}$"}}}}}}}]]

local words = {
  "customer", "laptop", "battery", "invoice", "delivery", "warranty", "screen", "keyboard", "refund",
  "support", "shipment", "charger", "address", "evening", "payment", "receipt", "promise", "account",
}

local bodies = {}
local at = 0

function init(arguments)
  local tail = arguments[1] == "schema" and format or ""
  for number = 1, BODIES do
    local prompt = "Write what the customer of case " .. number .. " tells us about the "
    local word = number
    while #prompt < 1010 do
      word = (word * 7 + number) % #words + 1
      prompt = prompt .. words[word] .. (#prompt % 90 < 8 and ", and then about the " or " ")
      word = word + #prompt
    end
    local body = '{"model":"mock-1","messages":[{"role":"user","content":"' .. prompt .. '"}],"seed":'
      .. number .. ',"max_tokens":2048' .. tail .. "}"
    bodies[number] = wrk.format("POST", wrk.path, { ["Content-Type"] = "application/json" }, body)
  end
end

function request()
  at = at % BODIES + 1
  return bodies[at]
end

function done(summary, latency)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format("replies_per_second %.0f\n", summary.requests / summary.duration * 1e6))
  io.write(string.format("p99_ms %.1f\nfailed %d\n", latency:percentile(99) / 1000, failed))
end
