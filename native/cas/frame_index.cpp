#include "frame_index.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace aoe::cas {

namespace {

// Forgetting begins when so much of the limit is left, as it takes its time.
constexpr size_t kHeadroom = 16;

uint64_t Fingerprint(const uint8_t* hash) {
  uint64_t value = 0;
  std::memcpy(&value, hash, sizeof value);
  return value;
}

}  // namespace

const EntryAddress* FrameIndex::Find(const uint8_t* hash, Copy copy) {
  return (copy == Copy::kNewest ? index_ : others_).Find(Fingerprint(hash));
}

void FrameIndex::Remember(const uint8_t* hash, EntryAddress address) {
  const uint64_t fingerprint = Fingerprint(hash);
  if (marking_) address.marked = 1;
  oldest_ = std::min(oldest_, address.segment);
  EntryAddress* known = index_.Find(fingerprint);
  if (known != nullptr) {
    // What is known and stored anew is damaged where it was, or a node with other hints: hints may
    // lead there.
    const bool is_anew = address.rebuilt == 0 && sources_.Trusted(known->segment);
    // What was logged since was perhaps stored anew because the other one is damaged.
    if (address.rebuilt != 0 && known->rebuilt == 0) std::swap(address, *known);
    if (known->marked != 0) address.marked = 1;
    if (is_anew || known->kept != 0) address.kept = 1;
    others_.Put(fingerprint, *known);
  }
  index_.Put(fingerprint, address);
}

const EntryAddress& FrameIndex::Reuse(const uint8_t* hash) {
  EntryAddress* address = index_.Find(Fingerprint(hash));
  address->marked = marking_ ? 1 : 0;
  return *address;
}

// Forgets the oldest eighth of the segments, but for what is found by the index alone: the rest is
// no longer found as duplicates, that is all. Goes over a part of the index each time, so that
// nobody waits for all of it.
void FrameIndex::EnforceLimit(uint32_t newest_segment) {
  newest_ = std::max(newest_, newest_segment);
  if (marking_) return;
  if (thinned_ == DedupIndex::kShards) {
    if (bytes() <= bytes_limit_ - bytes_limit_ / kHeadroom) return;
    first_kept_ = oldest_ + (newest_ - oldest_) / 8 + 1;
    oldest_ = first_kept_;
    thinned_ = 0;
  }
  const auto keep = [this](const EntryAddress& address) {
    return address.kept != 0 || address.segment >= first_kept_;
  };
  for (size_t slots = 0; slots < kSlotsAtOnce && thinned_ < DedupIndex::kShards; thinned_++) {
    slots += index_.Filter(thinned_, keep) + others_.Filter(thinned_, keep);
  }
  if (thinned_ < DedupIndex::kShards) return;
  if (bytes() <= bytes_max_ - bytes_max_ / kHeadroom) {
    bytes_limit_ = bytes_max_;
  } else if (first_kept_ > newest_) {
    // What is left must stay: to look again at each record would take too long.
    bytes_limit_ = bytes() + bytes() / 8;
  }
}

void FrameIndex::MarkBegin() {
  marked_unindexed_ = DedupIndex();
  marking_ = true;
}

bool FrameIndex::Mark(const uint8_t* hash) {
  const uint64_t fingerprint = Fingerprint(hash);
  EntryAddress* known = index_.Find(fingerprint);
  if (known != nullptr) {
    const bool fresh = known->marked == 0;
    known->marked = 1;
    return fresh;
  }
  const bool fresh = marked_unindexed_.Find(fingerprint) == nullptr;
  if (fresh) marked_unindexed_.Put(fingerprint, {});
  return fresh;
}

bool FrameIndex::IsMarkedUnindexed(const uint8_t* hash) {
  return marked_unindexed_.Find(Fingerprint(hash)) != nullptr;
}

void FrameIndex::MarkEnd() {
  marking_ = false;
  marked_unindexed_ = DedupIndex();
}

size_t FrameIndex::DropDetached(size_t shard) {
  const auto keep = [this](const EntryAddress& a) { return sources_.Attached(a.segment); };
  return index_.Filter(shard, keep) + others_.Filter(shard, keep);
}

}  // namespace aoe::cas
