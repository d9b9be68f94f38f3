-- The fleet's gate: a token bucket with reservation, an adaptive rate and an outage gate, in one hash.
--
-- KEYS[1]  the gate (hash)
-- KEYS[2]  reserve only, optional: the claim on what will be fetched (string)
-- ARGV[1]  what to do: reserve | reserve_for_key_check | clock_leapt | refused | failure | success | stop |
--          set_rate | pause | resume | state
-- ARGV[2]  channel that hears of every new generation (PUBLISH)
-- ARGV[3]  configured rate, requests   } `requests` per `period` seconds, integers
-- ARGV[4]  configured rate, period     }
-- ARGV[5]  capacity: tokens the bucket holds
-- ARGV[6+] by what to do:
--   reserve    longest wait the caller accepts (us), newest generation it has heard of, claim's owner or "", life of a
--              claim beyond the wait (ms)
--   throttled  the token's generation, pause (us)
--   trouble    the token's generation, 1 when a probe failed, jitter 0..999
--   well       the token's generation
--   stop       reason: closed until the key is seen to work (`preflight`, then `well`) or `resume`
--   preflight  longest wait (us), newest generation heard of: as reserve, through a gate that is stopped or closed
--   leapt      the generation in which the caller saw that the clock had leapt forward
--   set        requests, period: replaces the configured rate for the fleet; 0, 0 goes back to it
--   pause      length (us), 0: until `resume`
--
-- Returns for reserve and preflight  {verdict, wait_us, generation, reason, now (us since 1970)}; verdict
--   granted   the token is the caller's in wait_us; reason "check": report `well` when it goes well
--   probe     as granted, and the caller alone may find out whether the API is back
--   key       as granted, and the caller alone may find out whether the key that was refused works again
--   closed    no token: ask again in wait_us, or when a new generation is heard of
--   claimed   another caller fetches this just now: look again in wait_us
-- Returns for look     a flat list of names and values; for everything else the generation.
--
-- Time is Redis' own, whole microseconds; no caller's clock is used. The bucket is a virtual schedule (GCRA): `due`
-- is when the next token can be had, kept as whole microseconds and a fraction `frac`/`den`, so that no rate loses
-- anything to rounding; a bucket that rested has a `due` in the past, by at most capacity - 1 intervals. A generation
-- is one meaning of the schedule: what voids reservations not used yet (pause, new rate, reopening) begins a new one.

local gate, channel = KEYS[1], ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local PAUSE_FIRST, PAUSE_LONGEST = 500000, 30000000 -- outage gate, us
local STREAK = 3                                    -- failures in a row that mean an outage
local LEASE = 15000000                              -- a probe has this long to report, us
local KEY_CHECK = 60000000                          -- from one look at a key that was refused to the next, us
local CLAIM_LONGEST = 60000000                      -- no claim lives longer: the longest wait and one request, us
local AGREED = 60000000                             -- a stricter configuration holds this long after its last use, us
local FOREVER = 86400000000                         -- "until resume": ask again in a day, us
local SLACK = 100000                                -- a pause that is longer by less is the same pause, us
local RING = 64                                     -- seconds of history

local NAMES = {'gen', 'due', 'frac', 'den', 'requests', 'period', 'wmax', 'cut', 'paused', 'why', 'stop', 'streak',
               'outage', 'closed', 'lease', 'seen', 'run', 'checked', 'rate', 'rate_per', 'rate_at', 'size', 'size_at'}
local WORDS = {why = true, stop = true, run = true}
local state = {}
for i, value in ipairs(redis.call('HMGET', gate, unpack(NAMES))) do
  state[NAMES[i]] = value and (WORDS[NAMES[i]] and value or tonumber(value)) or nil
end

local function whole(number) return string.format('%.0f', number) end

local function save(...)
  local changes, dead = {}, {}
  for _, name in ipairs({...}) do
    local value = state[name]
    if value == nil then dead[#dead + 1] = name
    else
      changes[#changes + 1] = name
      changes[#changes + 1] = type(value) == 'number' and whole(value) or value
    end
  end
  if #changes > 0 then redis.call('HSET', gate, unpack(changes)) end
  if #dead > 0 then redis.call('HDEL', gate, unpack(dead)) end
end

local back = (state.seen or 0) - now
if back > 0 then -- the clock leapt back (set by hand, a failover): all that is waited for comes back with it
  for _, name in ipairs({'due', 'cut', 'paused', 'closed', 'lease', 'checked', 'rate_at', 'size_at'}) do
    if (state[name] or 0) > 0 then state[name] = state[name] - back end
  end
  save('due', 'cut', 'paused', 'closed', 'lease', 'checked', 'rate_at', 'size_at')
end
state.seen = now

-- Share of the configured rate in force at a time, in thousandths. After a refusal at `wmax`, from `cut` on: half of
-- it, back to 93 % of it in 2 s, creeping up to it until 45 s, and to the whole configured rate at 60 s. These and
-- their like were tried in virtual time against limits of a quarter to 98 % of the configured rate, steady and moving;
-- these lost least.
local function share(at)
  if not state.cut then return 1000 end
  local s, w = (at - state.cut) / 1000000, state.wmax
  local is
  if s < 0 then is = w / 2
  elseif s < 2 then is = w * (0.5 + 0.43 * s / 2)
  elseif s < 45 then is = w * (0.93 + 0.07 * (s - 2) / 43)
  elseif s < 60 then is = w + (1000 - w) * (s - 45) / 15
  else return 1000 end
  return math.max(1, math.floor(is))
end

-- The fleet has one rate and one capacity: of processes that are configured differently, the strictest that asked for
-- a token within the last minute counts.
local function agree()
  local rate, rate_per, size = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
  local same = rate == state.rate and rate_per == state.rate_per
  if not state.rate or rate / rate_per < state.rate / state.rate_per or now - state.rate_at > AGREED
     or (same and now - state.rate_at > 1000000) then
    state.rate, state.rate_per, state.rate_at = rate, rate_per, now
    save('rate', 'rate_per', 'rate_at')
  end
  if not state.size or size < state.size or now - state.size_at > AGREED
     or (size == state.size and now - state.size_at > 1000000) then
    state.size, state.size_at = size, now
    save('size', 'size_at')
  end
end

if ARGV[1] == 'reserve' or ARGV[1] == 'reserve_for_key_check' then agree() end
local configured = state.requests or state.rate or tonumber(ARGV[3])
local per = state.period or state.rate_per or tonumber(ARGV[4])
local capacity = state.size or tonumber(ARGV[5])

-- From a token at a time to the next: `step` us + `rest`/`den` us. By its own time and not by the caller's: what a crowd
-- reserves ahead while the rate is low must not keep it low.
local function interval(at)
  local den = configured * share(at)
  local step = math.floor(per * 1000000000 / den)
  return step, per * 1000000000 - step * den, den
end

local step, rest, den = interval(now)
local tolerance = (capacity - 1) * step + math.floor((capacity - 1) * rest / den)

-- No token is left, and the next can be had at `at`.
local function empty(at)
  state.due, state.frac, state.den = at, 0, den
end

-- Seconds since 1970 and the number in a slot of the history; nil when it is free.
local function entry(slot)
  local second, n = string.match(redis.call('HGET', gate, slot) or '', '^(%d+):(%d+)$')
  return tonumber(second), tonumber(n)
end

local function count(at)
  local this = math.floor(at / 1000000)
  local slot = 'g' .. whole(this % RING)
  local second, n = entry(slot)
  redis.call('HSET', gate, slot, whole(this) .. ':' .. whole(second == this and n + 1 or 1))
end

-- A new generation: reservations not used yet are void, in the history too.
local function renew()
  state.gen = math.max(now, (state.gen or 0) + 1)
  redis.call('PUBLISH', channel, whole(state.gen))
  for slot = 0, RING - 1 do
    local second = entry('g' .. slot)
    if second and second * 1000000 > now then redis.call('HDEL', gate, 'g' .. slot) end
  end
end

-- A new generation that begins without a token, after what pause there is.
local function begin()
  renew()
  empty(math.max(now, state.paused or 0) + interval(now))
  save('gen', 'due', 'frac', 'den')
end

-- The first call, or Redis lost its data, or it is another one (restarted, or a replica) that may have lost the last
-- second's reservations: begin with an empty bucket, never with a burst. A caller that may not use INFO cannot tell.
local server = redis.pcall('INFO', 'server')
local run = type(server) == 'string' and string.match(server, 'run_id:(%x+)') or nil
if not state.gen or (run and state.run ~= run) then
  state.run = run or state.run
  save('run')
  begin()
end

local function closed(wait, reason)
  return {'closed', whole(wait), whole(state.gen), reason, whole(now)}
end

local function granted(verdict, wait, reason)
  return {verdict, whole(wait), whole(state.gen), reason, whole(now)}
end

local function take(longest, claim, owner, life)
  if state.due < now - tolerance then state.due, state.frac = now - tolerance, 0 end
  local at = math.max(now, state.due + (state.frac > 0 and 1 or 0))
  local wait = at - now
  if wait > longest then return nil, wait end
  if claim then redis.call('SET', claim, owner, 'PX', whole(math.ceil(wait / 1000) + life)) end
  local gap, part, parts = interval(at)
  if state.den ~= parts then -- another rate than for the last token: never earlier than it said then
    state.due, state.frac, state.den = state.due + (state.frac > 0 and 1 or 0), 0, parts
  end
  state.due, state.frac = state.due + gap, state.frac + part
  if state.frac >= parts then state.due, state.frac = state.due + 1, state.frac - parts end
  save('due', 'frac', 'den')
  redis.call('HINCRBY', gate, 'granted', 1)
  count(at)
  return at, wait
end

-- The caller knows a generation that this Redis does not: it has lost data, and its clock may be behind the lost one's.
local function catch_up(heard)
  if heard <= state.gen then return end
  state.gen = heard
  begin()
end

local actions = {}

function actions.reserve()
  local longest, owner, life = tonumber(ARGV[6]), ARGV[8], tonumber(ARGV[9])
  catch_up(tonumber(ARGV[7]))
  if (state.paused or 0) < 0 then return closed(FOREVER, state.why) end
  if state.stop then
    local free = (state.checked or now) + KEY_CHECK
    if free > now then return closed(free - now, state.stop) end
    local at, wait = take(longest)
    if not at then return closed(wait, state.stop) end
    state.checked = now
    save('checked')
    return granted('key', wait, 'check')
  end
  if state.closed then
    local free = math.max(state.closed, state.lease or 0)
    if free > now then return closed(free - now, 'outage') end
  end
  local claim = KEYS[2]
  if claim then
    local holder, left = redis.call('GET', claim), redis.call('PTTL', claim) * 1000
    -- One that would last longer was made before the clock leapt back.
    if holder and holder ~= owner and left <= CLAIM_LONGEST then
      return {'claimed', whole(left), whole(state.gen), '', whole(now)}
    end
  end
  if state.closed then claim = nil end -- a probe fetches something else
  local at, wait = take(longest, claim, owner, life)
  if not at then return closed(wait, (state.paused or 0) > now and state.why or 'rate') end
  if state.closed then
    state.lease = at + LEASE
    save('lease')
    return granted('probe', wait, 'check')
  end
  return granted('granted', wait, (state.streak or 0) > 0 and 'check' or '')
end

function actions.reserve_for_key_check()
  catch_up(tonumber(ARGV[7]))
  if (state.paused or 0) < 0 then return closed(FOREVER, state.why) end
  local at, wait = take(tonumber(ARGV[6]))
  if not at then return closed(wait, (state.paused or 0) > now and state.why or 'rate') end
  return granted('granted', wait, 'check')
end

-- The clock leapt forward: what was reserved by the old one falls due beside what is given by the new one. All of it
-- is void. Whoever notices later names an older generation.
function actions.clock_leapt()
  if tonumber(ARGV[6]) >= state.gen then begin() end
  return whole(state.gen)
end

function actions.refused()
  local generation, pause = tonumber(ARGV[6]), tonumber(ARGV[7])
  redis.call('HINCRBY', gate, 'refused', 1)
  local till = now + pause
  if generation >= state.gen then -- granted since the last pause, so this one is new: halve
    state.wmax, state.cut = share(now), till
    state.streak, state.outage, state.closed, state.lease = nil, nil, nil, nil -- an API that refuses is up
  elseif (state.paused or 0) < 0 or till <= (state.paused or 0) + SLACK then
    return whole(state.gen)
  elseif state.cut then
    state.cut = math.max(state.cut, till)
  end
  local paused = state.paused or 0
  if paused >= 0 and till > paused then state.paused, state.why = till, 'throttled' end
  empty(math.max(till, paused, now + step))
  renew()
  save('gen', 'due', 'frac', 'den', 'paused', 'why', 'wmax', 'cut', 'streak', 'outage', 'closed', 'lease')
  return whole(state.gen)
end

function actions.failure()
  local generation, probe, jitter = tonumber(ARGV[6]), ARGV[7] == '1', tonumber(ARGV[8])
  if generation < state.gen and not probe then return whole(state.gen) end -- sent before the gate closed: known
  state.streak = (state.streak or 0) + 1
  if (state.closed and not probe) or (not state.closed and state.streak < STREAK) then
    save('streak')
    return whole(state.gen)
  end
  state.outage = state.closed and state.outage + 1 or 0
  local pause = math.min(PAUSE_LONGEST, PAUSE_FIRST * 2 ^ math.min(state.outage, 16))
  if state.closed then renew() else begin() end
  state.closed = now + math.floor(pause * (0.75 + jitter / 4000))
  state.lease = nil
  save('streak', 'outage', 'closed', 'lease', 'gen')
  return whole(state.gen)
end

function actions.success()
  local shut = state.closed or state.stop
  if shut and tonumber(ARGV[6]) < state.gen then return whole(state.gen) end -- asked before it was shut
  state.streak, state.outage, state.closed, state.lease, state.stop = nil, nil, nil, nil, nil
  if shut then
    if state.due < now then empty(now) end -- the probe's token counts, what was saved up meanwhile does not
    renew()
  end
  save('streak', 'outage', 'closed', 'lease', 'stop', 'gen', 'due', 'frac', 'den')
  return whole(state.gen)
end

function actions.stop()
  if state.stop then renew() else begin() end
  state.stop, state.checked = ARGV[6], now
  save('stop', 'checked', 'gen')
  return whole(state.gen)
end

function actions.set_rate()
  local requests, period = tonumber(ARGV[6]), tonumber(ARGV[7])
  state.requests, state.period = requests > 0 and requests or nil, period > 0 and period or nil
  state.wmax, state.cut = nil, nil
  configured = state.requests or state.rate or tonumber(ARGV[3])
  per = state.period or state.rate_per or tonumber(ARGV[4])
  begin() -- at the new rate's pace: from 1/hour, 40/s begins now
  save('requests', 'period', 'wmax', 'cut')
  return whole(state.gen)
end

function actions.pause()
  local length = tonumber(ARGV[6])
  state.paused, state.why = length > 0 and now + length or -1, 'paused'
  begin()
  save('paused', 'why')
  return whole(state.gen)
end

function actions.resume()
  state.paused, state.stop, state.streak, state.outage, state.closed, state.lease = nil, nil, nil, nil, nil, nil
  begin()
  save('paused', 'stop', 'streak', 'outage', 'closed', 'lease')
  return whole(state.gen)
end

function actions.state()
  local granted, tokens = {}, 0
  local second = math.floor(now / 1000000)
  for slot = 0, RING - 1 do
    local at, n = entry('g' .. slot)
    if at then granted[#granted + 1] = (second - at) .. ':' .. n end
  end
  if state.due <= now then
    tokens = math.min(capacity, 1 + math.floor((now - state.due) / (step + rest / den)))
  end
  local totals = redis.call('HMGET', gate, 'granted', 'refused')
  return {'requests', whole(configured), 'period_s', whole(per), 'share', whole(share(now)), 'generation', whole(state.gen),
          'tokens', whole(tokens), 'next_us', whole(math.max(0, state.due - now)),
          'why', state.why or '', 'paused_us', whole((state.paused or 0) < 0 and -1 or math.max(0, (state.paused or 0) - now)),
          'stop', state.stop or '', 'closed_us', whole(state.closed and math.max(0, state.closed - now) or -1),
          'streak', whole(state.streak or 0), 'granted', totals[1] or '0', 'refused', totals[2] or '0',
          'granted_by_age', table.concat(granted, ',')}
end

save('seen')
return actions[ARGV[1]]()
