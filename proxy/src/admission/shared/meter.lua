-- The meters of one client (../meter.rs, number for number), all asked at once.
--
-- KEYS: a meter per rule.
-- ARGV: now in microseconds (0: this server's clock), instances, then for each rule
--   per_minute, burst,
--   cost: what the request counts,
--   extra: what the asking instance would like to take in advance,
--   enforced: 0 for a shadow and a rule that degrades,
--   known: the generation of the meter that the instance last heard of (0: none),
--   owed: what it admitted without asking since,
--   level, slots: its own meter, with everything it admitted that is not forgotten; slots are 21 big-endian
--   numbers of 32 bits, the current one first, or nothing.
-- Returns for each rule: granted (cost and some of extra, or 0), room left, microseconds until a
-- request like this one would pass, microseconds until all is forgotten, generation.
--
-- A meter's generation is when it was made. An instance that knows it pays what it owes; one that knows
-- another one, because this server lost its data or got another server's, pays for everything, each request
-- in its place.

local SLOT, SLOTS, REQUEST = 3000000, 21, 60000000
local FORMAT = '>ddd' .. string.rep('I4', SLOTS)

local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local instances = tonumber(ARGV[2])

local function read(key)
  local raw = redis.call('GET', key)
  local meter = { slots = {}, held = 0 }
  if raw and #raw == struct.size(FORMAT) then
    local values = { struct.unpack(FORMAT, raw) }
    meter.level, meter.at, meter.generation = values[1], values[2], values[3]
    for i = 1, SLOTS do
      meter.slots[i] = values[i + 3]
      meter.held = meter.held + values[i + 3]
    end
  else
    meter.level, meter.at, meter.generation = 0, now, 0
    for i = 1, SLOTS do meter.slots[i] = 0 end
  end
  return meter
end

local function slot(time)
  return math.floor(time / SLOT) % SLOTS + 1
end

local function advance(meter, per_minute)
  local to = math.max(now, meter.at)
  meter.level = math.max(0, meter.level - (to - meter.at) * per_minute)
  local from, last = math.floor(meter.at / SLOT), math.floor(to / SLOT)
  for passed = from + 1, math.min(last, from + SLOTS) do
    local i = passed % SLOTS + 1
    meter.held = meter.held - meter.slots[i]
    meter.slots[i] = 0
  end
  meter.at = to
end

local function add(meter, count)
  meter.level = meter.level + count * REQUEST
  local i = slot(meter.at)
  meter.slots[i] = meter.slots[i] + count
  meter.held = meter.held + count
end

-- What another meter holds, too. A client is held to a whole burst at most.
local function join(meter, level, slots, burst)
  local values = { struct.unpack('>' .. string.rep('I4', SLOTS), slots) }
  local current = math.floor(meter.at / SLOT)
  for age = 0, SLOTS - 1 do
    local count = math.min(values[age + 1], math.max(0, burst - meter.held))
    if current - age >= 0 and count > 0 then
      local i = (current - age) % SLOTS + 1
      meter.slots[i] = meter.slots[i] + count
      meter.held = meter.held + count
    end
  end
  local full = burst * REQUEST
  meter.level = math.max(meter.level, math.min(meter.level + level, full))
end

local function room(meter, burst)
  local bucket = math.floor(math.max(0, burst * REQUEST - meter.level) / REQUEST)
  return math.min(math.max(0, burst - meter.held), bucket)
end

local function window_holds_in(meter, most)
  local held, current, wait = meter.held, math.floor(meter.at / SLOT), 0
  for age = SLOTS - 1, 0, -1 do
    if held <= most then break end
    local begun = current - age
    if begun >= 0 then
      held = held - meter.slots[begun % SLOTS + 1]
      wait = (begun + SLOTS) * SLOT - meter.at
    end
  end
  return wait
end

local function wait(meter, per_minute, burst, cost)
  local over = math.max(0, meter.level + cost * REQUEST - burst * REQUEST)
  return math.max(math.ceil(over / per_minute), window_holds_in(meter, burst - cost))
end

local function forgotten_in(meter, per_minute)
  return math.max(math.ceil(meter.level / per_minute), window_holds_in(meter, 0))
end

local rules, refused = {}, false
for i, key in ipairs(KEYS) do
  local at = 2 + (i - 1) * 9
  local arg = function(n) return tonumber(ARGV[at + n]) end
  local rule = { per_minute = arg(1), burst = arg(2), extra = arg(4), enforced = arg(5) == 1 }
  rule.cost = math.min(arg(3), rule.burst)
  local meter = read(key)
  advance(meter, rule.per_minute)
  local slots = ARGV[at + 9]
  if meter.generation ~= 0 and meter.generation == arg(6) then
    -- What was admitted elsewhere fills bucket and window at most.
    local due = math.min(arg(7), math.max(0, rule.burst - meter.held))
    if due > 0 then
      local level, full = meter.level, rule.burst * REQUEST
      add(meter, due)
      meter.level = math.max(level, math.min(meter.level, full))
      rule.changed = true
    end
  elseif slots ~= '' then
    join(meter, arg(8), slots, rule.burst)
    rule.changed = true
  end
  rule.meter, rule.room = meter, room(meter, rule.burst)
  if rule.enforced and rule.room < rule.cost then refused = true end
  rules[i] = rule
end

local answer = {}
for i, rule in ipairs(rules) do
  local meter, granted = rule.meter, 0
  if not refused and rule.room >= rule.cost then
    local spare = math.floor((rule.room - rule.cost) / instances)
    granted = rule.cost + math.min(rule.extra, spare)
    add(meter, granted)
    rule.changed = true
  end
  local forgotten = forgotten_in(meter, rule.per_minute)
  if rule.changed then
    if meter.generation == 0 then meter.generation = now end
    local raw = struct.pack(FORMAT, meter.level, meter.at, meter.generation, unpack(meter.slots))
    -- Instances slide by clocks of their own: what one has not forgotten yet is here, too.
    redis.call('SET', KEYS[i], raw, 'PX', math.ceil((forgotten + 2 * SLOT) / 1000))
  end
  local n = #answer
  answer[n + 1] = granted
  answer[n + 2] = room(meter, rule.burst)
  answer[n + 3] = wait(meter, rule.per_minute, rule.burst, rule.cost)
  answer[n + 4] = forgotten
  answer[n + 5] = meter.generation
end
return answer
