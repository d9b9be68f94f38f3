-- The fleet's limiter: a token bucket with reservations, an adaptive rate and a circuit breaker for outages.
--
-- KEYS[1]  the limiter (hash)
-- KEYS[2]  reserve only, optional: the claim on what will be fetched (string)
-- ARGV[1]  the verb: reserve | reserve_for_key_check | clock_leapt | refused | failure | success | stop |
--          set_rate | pause | resume | state
-- ARGV[2]  channel on which every new generation is published
-- ARGV[3]  configured rate: requests   } `requests` per `period` seconds, integers
-- ARGV[4]  configured rate: period     }
-- ARGV[5]  capacity: tokens that the bucket holds
-- ARGV[6+] by verb:
--   reserve                longest acceptable wait (us), newest generation that the caller knows, owner of the claim or "",
--                          life of the claim beyond the wait (ms)
--   reserve_for_key_check  longest acceptable wait (us), newest generation that the caller knows; passes a limiter that is
--                          stopped or closed by an outage
--   clock_leapt            the generation in which the caller saw Redis' clock leap forward
--   refused                the token's generation, pause (us)
--   failure                the token's generation, 1 if the token was a probe's, jitter 0..999
--   success                the token's generation
--   stop                   reason; the limiter is closed until a key check succeeds (`reserve_for_key_check` or a token
--                          with verdict key, then `success`), or until `resume`
--   set_rate               requests, period: replace the configured rate for the fleet; 0, 0 restores it
--   pause                  length (us); 0: until `resume`
--
-- Returns for reserve and reserve_for_key_check  {verdict, wait_us, generation, reason, now (us since 1970)}; verdict:
--   granted   the token is the caller's in wait_us; reason "check": report a success too
--   probe     as granted, and the caller alone may find out whether TMDB is back
--   key       as granted, and the caller alone may find out whether the rejected key works again
--   closed    no token: ask again in wait_us, or when a new generation is published
--   claimed   another caller is fetching this: ask again in wait_us
-- Returns for state  a flat list of names and values; for every other verb  the generation.
--
-- Time is Redis' own, in whole microseconds; no caller's clock is used. The bucket is a virtual schedule (GCRA): `due`
-- is when the next token is valid, kept as whole microseconds and a fraction `frac`/`den`, so that no rate loses anything
-- to rounding. A bucket that was idle has a `due` in the past, by at most capacity - 1 intervals. A new generation voids
-- all reservations that are not used yet (a pause, a new rate, reopening).

local limiter, channel = KEYS[1], ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local FIRST_PAUSE, LONGEST_PAUSE = 500000, 30000000 -- between probes in an outage, us
local STREAK = 3                                    -- failures in a row that make an outage
local PROBE_TIMEOUT = 15000000                      -- a probe that has not reported after this is lost, us
local KEY_CHECK = 60000000                          -- between two checks of a rejected key, us
local LONGEST_CLAIM = 60000000                      -- the longest wait and one request, us
local STRICTEST_KEPT = 60000000                     -- a stricter configuration counts this long after its last use, us
local FOREVER = 86400000000                         -- "until resume": ask again in a day, us
local SLACK = 100000                                -- a pause longer by less than this is the same pause, us
local HISTORY = 64                                  -- seconds

local NAMES = {'gen', 'due', 'frac', 'den', 'requests', 'period', 'wmax', 'cut', 'paused', 'pause_reason', 'stop', 'streak',
               'outage', 'closed', 'lease', 'seen', 'run_id', 'checked', 'rate', 'rate_per', 'rate_at', 'size', 'size_at'}
local TEXT = {pause_reason = true, stop = true, run_id = true}
local state = {}
for i, value in ipairs(redis.call('HMGET', limiter, unpack(NAMES))) do
  state[NAMES[i]] = value and (TEXT[NAMES[i]] and value or tonumber(value)) or nil
end

-- tostring() would round numbers above 10^14.
local function integer(number) return string.format('%.0f', number) end

local function save(...)
  local changed, removed = {}, {}
  for _, name in ipairs({...}) do
    local value = state[name]
    if value == nil then removed[#removed + 1] = name
    else
      changed[#changed + 1] = name
      changed[#changed + 1] = type(value) == 'number' and integer(value) or value
    end
  end
  if #changed > 0 then redis.call('HSET', limiter, unpack(changed)) end
  if #removed > 0 then redis.call('HDEL', limiter, unpack(removed)) end
end

local leap_back = (state.seen or 0) - now
if leap_back > 0 then -- the clock was set back (by hand, by a failover): move all times back with it
  for _, name in ipairs({'due', 'cut', 'paused', 'closed', 'lease', 'checked', 'rate_at', 'size_at'}) do
    if (state[name] or 0) > 0 then state[name] = state[name] - leap_back end
  end
  save('due', 'cut', 'paused', 'closed', 'lease', 'checked', 'rate_at', 'size_at')
end
state.seen = now

-- The share of the configured rate in force at a time, in thousandths. A refusal at share `wmax` halves it; from `cut`
-- (the end of the pause) it rises to 93 % of `wmax` in 2 s, to `wmax` at 45 s, and to the configured rate at 60 s. Of the
-- curves tried in virtual time, against limits of a quarter to 98 % of the configured rate, steady and changing, this one
-- lost least.
local function share(at)
  if not state.cut then return 1000 end
  local s, w = (at - state.cut) / 1000000, state.wmax
  local value
  if s < 0 then value = w / 2
  elseif s < 2 then value = w * (0.5 + 0.43 * s / 2)
  elseif s < 45 then value = w * (0.93 + 0.07 * (s - 2) / 43)
  elseif s < 60 then value = w + (1000 - w) * (s - 45) / 15
  else return 1000 end
  return math.max(1, math.floor(value))
end

-- The fleet has one rate and one capacity. When processes are configured differently, the strictest values count that
-- were used to reserve a token within the last minute.
local function adopt_strictest()
  local rate, rate_per, size = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
  local same = rate == state.rate and rate_per == state.rate_per
  if not state.rate or rate / rate_per < state.rate / state.rate_per or now - state.rate_at > STRICTEST_KEPT
     or (same and now - state.rate_at > 1000000) then
    state.rate, state.rate_per, state.rate_at = rate, rate_per, now
    save('rate', 'rate_per', 'rate_at')
  end
  if not state.size or size < state.size or now - state.size_at > STRICTEST_KEPT
     or (size == state.size and now - state.size_at > 1000000) then
    state.size, state.size_at = size, now
    save('size', 'size_at')
  end
end

if ARGV[1] == 'reserve' or ARGV[1] == 'reserve_for_key_check' then adopt_strictest() end
local configured = state.requests or state.rate or tonumber(ARGV[3])
local per = state.period or state.rate_per or tonumber(ARGV[4])
local capacity = state.size or tonumber(ARGV[5])

-- The interval from a token at a time to the next: `step` us + `rest`/`den` us. It depends on the token's time, not on
-- the caller's: tokens that many callers reserve ahead while the rate is low must not keep it low.
local function interval(at)
  local den = configured * share(at)
  local step = math.floor(per * 1000000000 / den)
  return step, per * 1000000000 - step * den, den
end

local step, rest, den = interval(now)
local tolerance = (capacity - 1) * step + math.floor((capacity - 1) * rest / den)

-- Take all tokens out of the bucket; the next is valid at `at`.
local function empty_bucket(at)
  state.due, state.frac, state.den = at, 0, den
end

-- The history has a field for each of the last HISTORY seconds: the second since 1970, and tokens granted in it.
local function history_field(second) return 'g' .. integer(second % HISTORY) end

local function read_history(field)
  local second, n = string.match(redis.call('HGET', limiter, field) or '', '^(%d+):(%d+)$')
  return tonumber(second), tonumber(n)
end

local function record_grant(at)
  local this = math.floor(at / 1000000)
  local second, n = read_history(history_field(this))
  redis.call('HSET', limiter, history_field(this), integer(this) .. ':' .. integer(second == this and n + 1 or 1))
end

-- Void all reservations that are not used yet, in the history too.
local function new_generation()
  state.gen = math.max(now, (state.gen or 0) + 1)
  redis.call('PUBLISH', channel, integer(state.gen))
  for i = 0, HISTORY - 1 do
    local second = read_history(history_field(i))
    if second and second * 1000000 > now then redis.call('HDEL', limiter, history_field(i)) end
  end
end

-- Start a new generation with an empty bucket, after the pause if there is one.
local function restart_empty()
  new_generation()
  empty_bucket(math.max(now, state.paused or 0) + interval(now))
  save('gen', 'due', 'frac', 'den')
end

-- Start empty, never with a burst, on the first call, after Redis lost its data, and on another server (a restart, a
-- replica), which may lack the last second's reservations. A caller that may not use INFO cannot notice the last.
local server = redis.pcall('INFO', 'server')
local run_id = type(server) == 'string' and string.match(server, 'run_id:(%x+)') or nil
if not state.gen or (run_id and state.run_id ~= run_id) then
  state.run_id = run_id or state.run_id
  save('run_id')
  restart_empty()
end

local function reply(verdict, wait, reason)
  return {verdict, integer(wait), integer(state.gen), reason, integer(now)}
end

local function is_paused_until_resume() return (state.paused or 0) < 0 end

local function no_token_reason() return (state.paused or 0) > now and state.pause_reason or 'rate' end

-- Reserve the next token: its time and the wait, or nil and the wait when that is longer than `longest`.
local function take(longest, claim, owner, life)
  if state.due < now - tolerance then state.due, state.frac = now - tolerance, 0 end
  local at = math.max(now, state.due + (state.frac > 0 and 1 or 0))
  local wait = at - now
  if wait > longest then return nil, wait end
  if claim then redis.call('SET', claim, owner, 'PX', integer(math.ceil(wait / 1000) + life)) end
  local gap, part, parts = interval(at)
  if state.den ~= parts then -- the rate has changed since the last token: round up, so that this one is never too early
    state.due, state.frac, state.den = state.due + (state.frac > 0 and 1 or 0), 0, parts
  end
  state.due, state.frac = state.due + gap, state.frac + part
  if state.frac >= parts then state.due, state.frac = state.due + 1, state.frac - parts end
  save('due', 'frac', 'den')
  redis.call('HINCRBY', limiter, 'granted', 1)
  record_grant(at)
  return at, wait
end

-- If the caller knows a newer generation, this Redis has lost data, and its clock may be behind the lost one's.
local function catch_up(known)
  if known <= state.gen then return end
  state.gen = known
  restart_empty()
end

local verbs = {}

function verbs.reserve()
  local longest, owner, life = tonumber(ARGV[6]), ARGV[8], tonumber(ARGV[9])
  catch_up(tonumber(ARGV[7]))
  if is_paused_until_resume() then return reply('closed', FOREVER, state.pause_reason) end
  if state.stop then
    local free = (state.checked or now) + KEY_CHECK
    if free > now then return reply('closed', free - now, state.stop) end
    local at, wait = take(longest)
    if not at then return reply('closed', wait, state.stop) end
    state.checked = now
    save('checked')
    return reply('key', wait, 'check')
  end
  if state.closed then
    local free = math.max(state.closed, state.lease or 0)
    if free > now then return reply('closed', free - now, 'outage') end
  end
  local claim = KEYS[2]
  if claim then
    local holder, left = redis.call('GET', claim), redis.call('PTTL', claim) * 1000
    -- A claim that lasts longer was made before the clock leapt back.
    if holder and holder ~= owner and left <= LONGEST_CLAIM then return reply('claimed', left, '') end
  end
  if state.closed then claim = nil end -- a probe fetches something else
  local at, wait = take(longest, claim, owner, life)
  if not at then return reply('closed', wait, no_token_reason()) end
  if state.closed then
    state.lease = at + PROBE_TIMEOUT
    save('lease')
    return reply('probe', wait, 'check')
  end
  return reply('granted', wait, (state.streak or 0) > 0 and 'check' or '')
end

function verbs.reserve_for_key_check()
  catch_up(tonumber(ARGV[7]))
  if is_paused_until_resume() then return reply('closed', FOREVER, state.pause_reason) end
  local at, wait = take(tonumber(ARGV[6]))
  if not at then return reply('closed', wait, no_token_reason()) end
  return reply('granted', wait, 'check')
end

-- Tokens reserved before the leap fall due beside those reserved after it, so all are void. A caller that notices
-- later names an older generation.
function verbs.clock_leapt()
  if tonumber(ARGV[6]) >= state.gen then restart_empty() end
  return integer(state.gen)
end

function verbs.refused()
  local generation, pause = tonumber(ARGV[6]), tonumber(ARGV[7])
  redis.call('HINCRBY', limiter, 'refused', 1)
  local till = now + pause
  if generation >= state.gen then -- a token granted since the last pause, so the refusal is a new one: halve the rate
    state.wmax, state.cut = share(now), till
    state.streak, state.outage, state.closed, state.lease = nil, nil, nil, nil -- an API that refuses is up
  elseif is_paused_until_resume() or till <= (state.paused or 0) + SLACK then
    return integer(state.gen)
  elseif state.cut then
    state.cut = math.max(state.cut, till)
  end
  local paused = state.paused or 0
  if paused >= 0 and till > paused then state.paused, state.pause_reason = till, 'throttled' end
  empty_bucket(math.max(till, paused, now + step))
  new_generation()
  save('gen', 'due', 'frac', 'den', 'paused', 'pause_reason', 'wmax', 'cut', 'streak', 'outage', 'closed', 'lease')
  return integer(state.gen)
end

function verbs.failure()
  local generation, probe, jitter = tonumber(ARGV[6]), ARGV[7] == '1', tonumber(ARGV[8])
  if generation < state.gen and not probe then return integer(state.gen) end -- sent before the limiter closed
  state.streak = (state.streak or 0) + 1
  if (state.closed and not probe) or (not state.closed and state.streak < STREAK) then
    save('streak')
    return integer(state.gen)
  end
  state.outage = state.closed and state.outage + 1 or 0
  local pause = math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ^ math.min(state.outage, 16))
  if state.closed then new_generation() else restart_empty() end
  state.closed = now + math.floor(pause * (0.75 + jitter / 4000))
  state.lease = nil
  save('streak', 'outage', 'closed', 'lease', 'gen')
  return integer(state.gen)
end

function verbs.success()
  local opens = state.closed or state.stop
  if opens and tonumber(ARGV[6]) < state.gen then return integer(state.gen) end -- sent before the limiter closed
  state.streak, state.outage, state.closed, state.lease, state.stop = nil, nil, nil, nil, nil
  if opens then
    if state.due < now then empty_bucket(now) end -- tokens saved up while it was closed do not count
    new_generation()
  end
  save('streak', 'outage', 'closed', 'lease', 'stop', 'gen', 'due', 'frac', 'den')
  return integer(state.gen)
end

function verbs.stop()
  if state.stop then new_generation() else restart_empty() end
  state.stop, state.checked = ARGV[6], now
  save('stop', 'checked', 'gen')
  return integer(state.gen)
end

function verbs.set_rate()
  local requests, period = tonumber(ARGV[6]), tonumber(ARGV[7])
  state.requests, state.period = requests > 0 and requests or nil, period > 0 and period or nil
  state.wmax, state.cut = nil, nil
  configured = state.requests or state.rate or tonumber(ARGV[3])
  per = state.period or state.rate_per or tonumber(ARGV[4])
  restart_empty() -- at the new pace: a change from 1/hour to 40/s takes effect now
  save('requests', 'period', 'wmax', 'cut')
  return integer(state.gen)
end

function verbs.pause()
  local length = tonumber(ARGV[6])
  state.paused, state.pause_reason = length > 0 and now + length or -1, 'paused'
  restart_empty()
  save('paused', 'pause_reason')
  return integer(state.gen)
end

function verbs.resume()
  state.paused, state.stop, state.streak, state.outage, state.closed, state.lease = nil, nil, nil, nil, nil, nil
  restart_empty()
  save('paused', 'stop', 'streak', 'outage', 'closed', 'lease')
  return integer(state.gen)
end

function verbs.state()
  local granted, tokens = {}, 0
  local second = math.floor(now / 1000000)
  for i = 0, HISTORY - 1 do
    local at, n = read_history(history_field(i))
    if at then granted[#granted + 1] = (second - at) .. ':' .. n end
  end
  if state.due <= now then
    tokens = math.min(capacity, 1 + math.floor((now - state.due) / (step + rest / den)))
  end
  local paused_us = is_paused_until_resume() and -1 or math.max(0, (state.paused or 0) - now)
  local closed_us = state.closed and math.max(0, state.closed - now) or -1
  local totals = redis.call('HMGET', limiter, 'granted', 'refused')
  return {'requests', integer(configured), 'period_s', integer(per), 'share', integer(share(now)),
          'generation', integer(state.gen), 'tokens', integer(tokens), 'next_us', integer(math.max(0, state.due - now)),
          'pause_reason', state.pause_reason or '', 'paused_us', integer(paused_us), 'stop', state.stop or '',
          'closed_us', integer(closed_us), 'streak', integer(state.streak or 0), 'granted', totals[1] or '0',
          'refused', totals[2] or '0', 'granted_by_age', table.concat(granted, ',')}
end

save('seen')
return verbs[ARGV[1]]()
