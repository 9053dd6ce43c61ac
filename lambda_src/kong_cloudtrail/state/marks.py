"""Where the marks of delivered entries are in Valkey, and the scripts that read and write them.

A mark is 8 bytes. The marks of one hour of request time are in one hash, so they expire together, with the last of
them. The fields of the hash are buckets, and a bucket is a text of marks, one after the other::

    {prefix}:seen:{hour}    ""    up to 256 marks; or "/" if there were more: then they are in the 16 buckets below
                            "a"   the marks whose first hexadecimal digit is a; or "/"
                            "a7"  the marks that begin with a7; and so on

So a quiet hour is one small bucket, a busy one has as many as it needs, and a mark takes about 10 bytes in either
(docs/cost.md says what was measured). Each script gets every key that it uses, as a cluster requires.

A mark is a keyed hash of `Entry.key`, which contains the ``request_id`` that Kong draws at random, and a fingerprint of
the content. An entry would be taken for another one if both are of the same hour and have the same mark. With 20 000
entries an hour, 15 000 000 a month, there are 200 000 000 pairs an hour, of which one in 2**64 is such a pair: that
happens once in 10 000 000 years. The key of the hash is random and kept in the cache only, so nobody can search for two
entries with the same mark.

An entry without a usable time has a key of its own. If such entries shared a hash, it would never expire.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from ..domain.entry import Entry

MARK_BYTES = 8
HOUR_SECONDS = 3600

_BUCKET_MARKS = 256
_COMMON = f"""
local FULL = {_BUCKET_MARKS * MARK_BYTES}
local byte, sub, find, floor, join, call = string.byte, string.sub, string.find, math.floor, table.concat, redis.call
local DIGITS = {{[0]='0','1','2','3','4','5','6','7','8','9','a','b','c','d','e','f'}}

local function marks_of(text)
  local marks = {{}}
  for i = 1, #text, {MARK_BYTES} do marks[#marks + 1] = sub(text, i, i + {MARK_BYTES - 1}) end
  return marks
end

local function holds(bucket, mark)
  local at = find(bucket, mark, 1, true)
  while at and at % {MARK_BYTES} ~= 1 do at = find(bucket, mark, at + 1, true) end
  return at ~= nil
end

local function read(key, wanted)
  local paths = {{}}
  for path in pairs(wanted) do paths[#paths + 1] = path end
  return paths, call('HMGET', key, unpack(paths))
end

local function pass_on(marks, path, below)
  local depth = #path
  local at, is_high = floor(depth / 2) + 1, depth % 2 == 0
  for i = 1, #marks do
    local value = byte(marks[i], at)
    local name = path .. DIGITS[is_high and floor(value / 16) or value % 16]
    local part = below[name]
    if part then part[#part + 1] = marks[i] else below[name] = {{marks[i]}} end
  end
end
"""

LOOK_UP = (
    _COMMON
    + """
-- KEYS: the lock, then hours and single marks. ARGV: for each of these the marks of the hour, or nothing.
-- Returns the lock's value, and for each key a digit for each mark: 1 if it is there.
local answers = {call('GET', KEYS[1])}
for k = 2, #KEYS do
  local all, found, digits = marks_of(ARGV[k - 1]), {}, {}
  local wanted = {[''] = all}
  while #all > 0 and next(wanted) do
    local below = {}
    local paths, buckets = read(KEYS[k], wanted)
    for p = 1, #paths do
      local bucket, marks = buckets[p], wanted[paths[p]]
      if bucket == '/' then
        pass_on(marks, paths[p], below)
      elseif bucket then
        for i = 1, #marks do found[marks[i]] = holds(bucket, marks[i]) end
      end
    end
    wanted = below
  end
  for i = 1, #all do digits[i] = found[all[i]] and '1' or '0' end
  if #all == 0 then digits[1] = call('EXISTS', KEYS[k]) end
  answers[k] = join(digits)
end
return answers
"""
)

MARK = (
    _COMMON
    + f"""
-- KEYS: hours and single marks, then the key of the hash and the count. ARGV: for each of the first ones the marks of
-- the hour, or nothing; then the key of the hash, the seconds that the marks have to last, and how many these are.
local seconds, total = tonumber(ARGV[#ARGV - 1]), tonumber(ARGV[#ARGV])
for k = 1, #KEYS - 2 do
  local key, wanted = KEYS[k], {{[''] = marks_of(ARGV[k])}}
  if #wanted[''] == 0 then
    call('SET', key, '1', 'EX', seconds)
    wanted = {{}}
  end
  while next(wanted) do
    local below, changed = {{}}, {{}}
    local paths, buckets = read(key, wanted)
    for p = 1, #paths do
      local path, bucket = paths[p], buckets[p] or ''
      local marks = wanted[path]
      if bucket == '/' then
        pass_on(marks, path, below)
      else
        local fresh = {{}}
        for i = 1, #marks do
          if not holds(bucket, marks[i]) then fresh[#fresh + 1] = marks[i] end
        end
        if #fresh > 0 then
          local grown = bucket .. join(fresh)
          if #grown > FULL and #path < {2 * MARK_BYTES} then
            pass_on(marks_of(grown), path, below)
            grown = '/'
          end
          changed[#changed + 1] = path
          changed[#changed + 1] = grown
        end
      end
    end
    if #changed > 0 then call('HSET', key, unpack(changed)) end
    wanted = below
  end
  -- Longer than needed, so that not every batch has to set it again.
  if call('TTL', key) < seconds then call('EXPIRE', key, seconds + {HOUR_SECONDS}) end
end
call('SET', KEYS[#KEYS - 1], ARGV[#ARGV - 2], 'NX')
call('SET', KEYS[#KEYS], (tonumber(call('GET', KEYS[#KEYS])) or 0) + total)
"""
)


class Places:
    """Where the marks of some entries are.

    Parameters
    ----------
    prefix
        The prefix of all keys of the trail.
    hash_key
        The key of the hash, at most 64 bytes.
    entries
        The entries.
    """

    def __init__(self, prefix: str, hash_key: bytes, entries: Sequence[Entry]) -> None:
        hours: dict[str, list[bytes]] = {}
        self._entries: dict[str, list[Entry]] = {}
        for entry in entries:
            mark = hashlib.blake2b(entry.key.encode(), digest_size=MARK_BYTES, key=hash_key).digest()
            if entry.timestamp is None:
                name, mark = f"{prefix}:seen:{mark.hex()}", b""
            else:
                name = f"{prefix}:seen:{entry.timestamp // HOUR_SECONDS}"
            hours.setdefault(name, []).append(mark)
            self._entries.setdefault(name, []).append(entry)
        self.names = list(hours)
        self.marks = [b"".join(marks) for marks in hours.values()]

    def keys_where(self, digits: Sequence[str]) -> set[str]:
        """Return the keys of the entries whose digit is 1.

        Parameters
        ----------
        digits
            For each name a text of as many digits as there are entries.
        """
        return {
            entry.key
            for name, text in zip(self.names, digits, strict=True)
            if "1" in text
            for entry, digit in zip(self._entries[name], text, strict=True)
            if digit == "1"
        }
