// The dedup index: from the first 64 bits of a hash to the log entry that tells the rest.
//
// It is a hint. A match is no proof: the caller compares the full hash in the entry. It may be
// lost or out of date without losing data; it is rebuilt from the log. It may be partial, but for
// frames to which no hints lead, such as those that a collection has moved: nothing else tells
// where they are.
//
// 1024 shards by the top bits of the fingerprint, each an array in which the slots lie in ascending
// order of their fingerprints near the place that a fingerprint maps to. So a search that fails
// ends as early as one that succeeds, a shard may be nine tenths full (17.8 to 20 bytes an entry)
// and grows by an eighth, one shard at a time. What concerns all entries is done for one shard at a
// time, too, so that nobody waits for long: a GiB of them takes a second.
//
// Invariants of a shard: used slots ascend; between a fingerprint's home and its slot there is no
// empty slot. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace aoe::cas {

// Which entry of which record describes a frame.
struct EntryAddress {
  uint32_t segment = 0;
  uint16_t record = 0;  // its offset in units of kRecordAlignment
  uint16_t index : 12 = 0;
  uint16_t rebuilt : 1 = 0;  // from before the start: older than what was logged since
  uint16_t moved : 1 = 0;   // in a record of moved frames: hints do not lead there
  uint16_t kept : 1 = 0;    // that, or stored anew in place of another: hints do not lead there
  uint16_t marked : 1 = 0;  // found alive by the collection that is running
};

class DedupIndex {
 public:
  static constexpr size_t kShards = 1024;

  // Returns null when there is no such fingerprint.
  EntryAddress* Find(uint64_t fingerprint);
  // Adds a fingerprint, or gives it a new address.
  void Put(uint64_t fingerprint, EntryAddress address);
  // Returns how many slots there are in the shard.
  size_t Unmark(size_t shard);
  // Drops every entry of a shard whose address does not satisfy `keep`. Returns how many slots were
  // looked at.
  size_t Filter(size_t shard, const std::function<bool(const EntryAddress&)>& keep);

  size_t count() const { return count_; }
  size_t bytes() const { return capacity_ * sizeof(Slot); }

 private:
  struct Slot {
    uint64_t fingerprint = 0;  // 0: empty
    EntryAddress address;
  };
  static_assert(sizeof(Slot) == 16);
  struct Shard {
    std::vector<Slot> slots;  // homes, then room for what is pushed beyond the last one
    size_t homes = 0;
    size_t count = 0;
  };

  static constexpr int kShardBits = 10;
  static_assert(kShards == 1 << kShardBits);
  static constexpr size_t kHomesMin = 8;
  static constexpr size_t kOverflow = 8;

  Shard& ShardOf(uint64_t fingerprint) { return shards_[fingerprint >> (64 - kShardBits)]; }
  static size_t Home(const Shard& shard, uint64_t fingerprint);
  static size_t Seek(const Shard& shard, uint64_t fingerprint);
  static bool Insert(Shard* shard, size_t position, const Slot& slot);
  void Rebuild(Shard* shard, size_t homes);

  std::vector<Shard> shards_;  // none until something is put
  size_t count_ = 0;
  size_t capacity_ = 0;
};

}  // namespace aoe::cas
