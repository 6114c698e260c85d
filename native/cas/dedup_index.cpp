#include "dedup_index.h"

#include <algorithm>
#include <utility>

namespace aoe::cas {

namespace {

// Zero marks an empty slot.
uint64_t NonZero(uint64_t fingerprint) { return fingerprint == 0 ? 1 : fingerprint; }

}  // namespace

// Maps what is below the shard's bits to the homes, keeping the order.
size_t DedupIndex::Home(const Shard& shard, uint64_t fingerprint) {
  const uint64_t fraction = fingerprint << kShardBits >> 32;
  return static_cast<size_t>(fraction * shard.homes >> 32);
}

// The place of the first slot from the home on that is empty or not below `fingerprint`.
size_t DedupIndex::Seek(const Shard& shard, uint64_t fingerprint) {
  size_t position = Home(shard, fingerprint);
  while (position < shard.slots.size() && shard.slots[position].fingerprint != 0 &&
         shard.slots[position].fingerprint < fingerprint) {
    position++;
  }
  return position;
}

EntryAddress* DedupIndex::Find(uint64_t fingerprint) {
  if (shards_.empty()) return nullptr;
  fingerprint = NonZero(fingerprint);
  Shard& shard = ShardOf(fingerprint);
  const size_t position = Seek(shard, fingerprint);
  if (position == shard.slots.size()) return nullptr;
  Slot& slot = shard.slots[position];
  return slot.fingerprint == fingerprint ? &slot.address : nullptr;
}

void DedupIndex::Put(uint64_t fingerprint, EntryAddress address) {
  if (shards_.empty()) shards_.resize(kShards);
  fingerprint = NonZero(fingerprint);
  Shard& shard = ShardOf(fingerprint);
  if (shard.homes == 0) Rebuild(&shard, kHomesMin);
  size_t position = Seek(shard, fingerprint);
  if (position < shard.slots.size() && shard.slots[position].fingerprint == fingerprint) {
    shard.slots[position].address = address;
    return;
  }
  const Slot slot{fingerprint, address};
  while ((shard.count + 1) * 10 > shard.slots.size() * 9 || !Insert(&shard, position, slot)) {
    Rebuild(&shard, shard.homes + shard.homes / 8 + 1);
    position = Seek(shard, fingerprint);
  }
  shard.count++;
  count_++;
}

// Moves the slots from `position` to the next empty one up by one. False when there is none.
bool DedupIndex::Insert(Shard* shard, size_t position, const Slot& slot) {
  const auto first = shard->slots.begin() + static_cast<ptrdiff_t>(position);
  const auto empty =
      std::find_if(first, shard->slots.end(), [](const Slot& s) { return s.fingerprint == 0; });
  if (empty == shard->slots.end()) return false;
  std::move_backward(first, empty, empty + 1);
  *first = slot;
  return true;
}

void DedupIndex::Rebuild(Shard* shard, size_t homes) {
  const std::vector<Slot> old = std::exchange(shard->slots, {});
  capacity_ -= old.size();
  for (bool complete = false; !complete; homes += homes / 16 + 1) {
    shard->homes = homes;
    shard->slots.assign(homes + kOverflow + homes / 256, Slot{});
    size_t next = 0;
    complete = true;
    for (const Slot& slot : old) {
      if (slot.fingerprint == 0) continue;
      const size_t position = std::max(next, Home(*shard, slot.fingerprint));
      if (position >= shard->slots.size()) {
        complete = false;
        break;
      }
      shard->slots[position] = slot;
      next = position + 1;
    }
  }
  capacity_ += shard->slots.size();
}

size_t DedupIndex::Unmark(size_t number) {
  if (shards_.empty()) return 0;
  std::vector<Slot>& slots = shards_[number].slots;
  for (Slot& slot : slots) slot.address.marked = 0;
  return slots.size();
}

size_t DedupIndex::Filter(size_t number, const std::function<bool(const EntryAddress&)>& keep) {
  if (shards_.empty()) return 0;
  Shard& shard = shards_[number];
  const size_t count = shard.count;
  const size_t slot_count = shard.slots.size();
  for (Slot& slot : shard.slots) {
    if (slot.fingerprint == 0 || keep(slot.address)) continue;
    slot = Slot{};
    shard.count--;
  }
  if (shard.count == count) return slot_count;
  count_ -= count - shard.count;
  // Closes the gaps, so that a search may stop at an empty slot again.
  Rebuild(&shard, std::max(kHomesMin, shard.count * 20 / 17));
  return slot_count;
}

}  // namespace aoe::cas
