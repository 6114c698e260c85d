#include "known_frames.h"

#include <cerrno>
#include <chrono>
#include <thread>
#include <utility>

#include "block_hash.h"
#include "record.h"

namespace aoe::cas {

namespace {

// How long the lock is left to others between parts of the index.
constexpr std::chrono::microseconds kTurn{50};

uint64_t KeyOf(FrameLocation location) { return uint64_t{location.segment} << 32 | location.place; }

EntryAddress AddressOf(const RecordHeader& header, size_t index) {
  EntryAddress address;
  address.segment = header.segment;
  address.record = static_cast<uint16_t>(header.offset);
  address.index = static_cast<uint16_t>(index & 0xfff);
  address.moved = address.kept = header.type == kMovedRecord ? 1 : 0;
  return address;
}

bool IsSameRecord(const EntryAddress& address, const RecordHeader& header) {
  return address.segment == header.segment && address.record == header.offset;
}

}  // namespace

bool KnownFrames::Deduplicate(uint8_t* record, size_t count, const FrameLocation* same,
                              bool may_block, int32_t* holder) {
  const RecordHeader& header = *HeaderOf(record);
  const Entry* entries = EntriesOf(record);
  Lock lock(mutex_);
  if (!may_block && !CanDeduplicateNow(entries, count)) return false;
  entries_.Remember(header.segment, header.offset, record);
  for (size_t i = 0; i < count; i++) {
    const bool has_frame = HasFrame(entries[i].kind);
    holder[i] = has_frame ? DeduplicateEntry(record, i, same[i], may_block, &lock) : -1;
  }
  index_.EnforceLimit(header.segment);
  return true;
}

bool KnownFrames::CanDeduplicateNow(const Entry* entries, size_t count) {
  EntryReader::Miss miss;
  Entry found;
  for (size_t i = 0; i < count; i++) {
    if (HasFrame(entries[i].kind)) FindDuplicate(entries[i].hash, &found, &miss);
    if (miss.source != nullptr) return false;
  }
  return true;
}

// Returns the holder of the entry's frame.
int32_t KnownFrames::DeduplicateEntry(uint8_t* record, size_t i, const FrameLocation& same,
                                      bool may_block, Lock* lock) {
  const RecordHeader& header = *HeaderOf(record);
  Entry& entry = EntriesOf(record)[i];
  EntryReader::Miss miss;
  Entry found;
  bool is_duplicate = FindDuplicate(entry.hash, &found, &miss);
  while (may_block && miss.source != nullptr && Fetch(miss, lock)) {
    is_duplicate = FindDuplicate(entry.hash, &found, &miss);
  }
  if (is_duplicate && entry.kind == EntryKind::kNode && found.segment != 0) {
    is_duplicate = found.segment == same.segment && found.place == same.place;
  }
  if (!is_duplicate) {
    index_.Remember(entry.hash, AddressOf(header, i));
    return static_cast<int32_t>(i);
  }
  const EntryAddress& address = index_.Reuse(entry.hash);
  entry.kind = EntryKind::kDuplicate;
  entry.segment = found.segment;
  entry.place = found.place;
  return IsSameRecord(address, header) ? address.index : -1;
}

void KnownFrames::Place(uint8_t* record, size_t count, const int32_t* holder,
                        const uint32_t* places) {
  Entry* entries = EntriesOf(record);
  std::lock_guard lock(mutex_);
  for (size_t i = 0; i < count; i++) {
    if (holder[i] < 0) continue;
    entries[i].segment = HeaderOf(record)->segment;
    entries[i].place = places[holder[i]];
  }
}

void KnownFrames::Written(const uint8_t* record) {
  std::lock_guard lock(mutex_);
  entries_.Forget(HeaderOf(record)->segment, HeaderOf(record)->offset);
}

void KnownFrames::Add(const uint8_t* record, bool rebuilt) {
  const RecordHeader* header = HeaderOf(record);
  std::lock_guard lock(mutex_);
  for (size_t i = 0; i < header->entry_count; i++) {
    const Entry& entry = EntriesOf(record)[i];
    if (!HasFrame(entry.kind)) continue;
    EntryAddress address = AddressOf(*header, i);
    address.rebuilt = rebuilt ? 1 : 0;
    index_.Remember(entry.hash, address);
  }
  index_.EnforceLimit(header->segment);
}

// A duplicate is what has the same full hash, in a segment that will stay.
bool KnownFrames::FindDuplicate(const uint8_t* hash, Entry* entry, EntryReader::Miss* miss) {
  miss->source = nullptr;
  const EntryAddress* address = index_.Find(hash);
  if (address == nullptr || !sources_.Trusted(address->segment)) return false;
  const int error = entries_.Read(*address, entry, miss);
  if (error != 0 || !HasFrame(entry->kind) || !SameHash(entry->hash, hash)) return false;
  return !IsDamaged({entry->segment, entry->place});
}

bool KnownFrames::Fetch(const EntryReader::Miss& miss, Lock* lock) {
  lock->unlock();
  auto page = EntryReader::Fetch(miss);
  lock->lock();
  if (page == nullptr) return false;
  entries_.Keep(std::move(page));
  return true;
}

ReadResult KnownFrames::Locate(const uint8_t* hash, FrameLocation* location, bool may_block) {
  Lock lock(mutex_);
  const ReadResult result = LookUp(Copy::kNewest, hash, location, may_block, &lock);
  if (result == ReadResult::kGone) return LookUp(Copy::kOther, hash, location, may_block, &lock);
  if (result != ReadResult::kOk || !IsDamaged(*location)) return result;
  FrameLocation other;
  const ReadResult another = LookUp(Copy::kOther, hash, &other, may_block, &lock);
  if (another == ReadResult::kWouldBlock) return another;
  if (another == ReadResult::kOk && !IsDamaged(other)) *location = other;
  return result;
}

ReadResult KnownFrames::LocateCopy(Copy copy, const uint8_t* hash, FrameLocation* location) {
  Lock lock(mutex_);
  return LookUp(copy, hash, location, true, &lock);
}

ReadResult KnownFrames::LookUp(Copy copy, const uint8_t* hash, FrameLocation* location,
                               bool may_block, Lock* lock) {
  Entry entry;
  int error = 0;
  EntryReader::Miss miss;
  do {
    const EntryAddress* address = index_.Find(hash, copy);
    if (address == nullptr) return ReadResult::kGone;
    error = entries_.Read(*address, &entry, &miss);
    if (error == EAGAIN && !may_block) return ReadResult::kWouldBlock;
  } while (error == EAGAIN && Fetch(miss, lock));
  if (error != 0) return ReadResult::kGone;
  if (!HasFrame(entry.kind) || !SameHash(entry.hash, hash)) return ReadResult::kGone;
  // Its record is being made: where the frame will be is not known yet.
  if (entry.segment == 0) return ReadResult::kGone;
  *location = {entry.segment, entry.place};
  return ReadResult::kOk;
}

void KnownFrames::Distrust(FrameLocation location) {
  std::lock_guard lock(mutex_);
  damaged_.insert(KeyOf(location));
}

bool KnownFrames::IsDamaged(FrameLocation location) const {
  return !damaged_.empty() && damaged_.contains(KeyOf(location));
}

void KnownFrames::MarkBegin() {
  InParts([this](size_t shard) { return index_.Unmark(shard); });
  std::lock_guard lock(mutex_);
  index_.MarkBegin();
}

bool KnownFrames::Mark(const uint8_t* hash) {
  std::lock_guard lock(mutex_);
  return index_.Mark(hash);
}

bool KnownFrames::IsMarked(const uint8_t* record, size_t index, FrameLocation* moved) {
  *moved = {};
  const RecordHeader& header = *HeaderOf(record);
  const uint8_t* hash = EntriesOf(record)[index].hash;
  Lock lock(mutex_);
  for (;;) {
    const EntryAddress* known = index_.Find(hash);
    if (known == nullptr || known->marked == 0) return index_.IsMarkedUnindexed(hash);
    // Hints lead here, or used to: another one is found for sure only where it was moved to.
    const bool is_known = IsSameRecord(*known, header) && known->index == index;
    if (is_known || known->moved == 0) return true;
    EntryReader::Miss miss;
    Entry other;
    if (FindDuplicate(hash, &other, &miss)) {
      *moved = {other.segment, other.place};
      return true;
    }
    if (miss.source == nullptr || !Fetch(miss, &lock)) return true;
  }
}

void KnownFrames::MarkEnd() {
  std::lock_guard lock(mutex_);
  index_.MarkEnd();
}

void KnownFrames::DropDetached() {
  InParts([this](size_t shard) { return index_.DropDetached(shard); });
}

// Lets others have the lock after each part of the index.
void KnownFrames::InParts(const std::function<size_t(size_t shard)>& work) {
  for (size_t shard = 0; shard < DedupIndex::kShards;) {
    {
      std::lock_guard lock(mutex_);
      for (size_t slots = 0; slots < FrameIndex::kSlotsAtOnce && shard < DedupIndex::kShards;
           shard++) {
        slots += work(shard);
      }
    }
    // Whoever waits for it would not be fast enough to get it otherwise.
    if (shard < DedupIndex::kShards) std::this_thread::sleep_for(kTurn);
  }
}

size_t KnownFrames::index_count() {
  std::lock_guard lock(mutex_);
  return index_.count();
}

size_t KnownFrames::index_bytes() {
  std::lock_guard lock(mutex_);
  return index_.bytes();
}

}  // namespace aoe::cas
