#include "engine.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

#include "block_hash.h"
#include "record.h"

namespace aoe::cas {

namespace {

// Slots of an index that are looked at with the lock held: some tenths of a millisecond.
constexpr size_t kSlotsAtOnce = size_t{1} << 15;
// How long it is left to others then.
constexpr std::chrono::microseconds kTurn{50};
// Forgetting begins when so much of the limit is left, as it takes its time.
constexpr size_t kHeadroom = 16;

uint64_t KeyOf(uint32_t segment, uint32_t place) { return uint64_t{segment} << 32 | place; }

uint64_t Fingerprint(const uint8_t* hash) {
  uint64_t value = 0;
  std::memcpy(&value, hash, sizeof value);
  return value;
}

EntryAddress AddressOf(const RecordHeader& header, size_t index) {
  EntryAddress address;
  address.segment = header.segment;
  address.record = static_cast<uint16_t>(header.offset);
  address.index = static_cast<uint16_t>(index & 0xfff);
  address.moved = address.kept = header.type == kMovedRecord ? 1 : 0;
  return address;
}

}  // namespace

size_t Engine::Ingest(const uint8_t* slab, const IngestRow* rows, size_t count, uint8_t* record,
                      bool compress, bool may_block) {
  RecordHeader* header = HeaderOf(record);
  Entry* entries = EntriesOf(record);
  DescribeRows(slab, rows, count, entries);
  FrameLocation same[kEntriesMax];
  for (size_t i = 0; i < count; i++) {
    if (entries[i].kind != EntryKind::kNode) continue;
    const uint8_t* node = slab + rows[i].memory;
    if (!FindSameNode(entries[i].hash, node, &same[i], may_block)) return 0;
  }
  // Which entry of this record holds the frame of an entry, itself or an earlier one: -1 for none.
  int32_t holder[kEntriesMax];
  {
    std::unique_lock lock(mutex_);
    EntryReader::Miss miss;
    Entry found;
    if (!may_block) {
      for (size_t i = 0; i < count; i++) {
        if (HasFrame(entries[i].kind)) FindDuplicate(entries[i].hash, &found, &miss);
        if (miss.source != nullptr) return 0;
      }
    }
    entries_.Remember(header->segment, header->offset, record);
    for (size_t i = 0; i < count; i++) {
      holder[i] = -1;
      if (!HasFrame(entries[i].kind)) continue;
      const uint64_t fingerprint = Fingerprint(entries[i].hash);
      bool is_duplicate = FindDuplicate(entries[i].hash, &found, &miss);
      while (may_block && miss.source != nullptr && Fetch(miss, &lock)) {
        is_duplicate = FindDuplicate(entries[i].hash, &found, &miss);
      }
      if (is_duplicate && entries[i].kind == EntryKind::kNode && found.segment != 0) {
        is_duplicate = found.segment == same[i].segment && found.place == same[i].place;
      }
      if (!is_duplicate) {
        Remember(fingerprint, AddressOf(*header, i));
        holder[i] = static_cast<int32_t>(i);
        continue;
      }
      EntryAddress* address = index_.Find(fingerprint);
      address->marked = marking_ ? 1 : 0;
      if (address->segment == header->segment && address->record == header->offset) {
        holder[i] = address->index;
      }
      entries[i].kind = EntryKind::kDuplicate;
      entries[i].segment = found.segment;
      entries[i].place = found.place;
    }
    EnforceLimit(header->segment);
  }
  uint32_t places[kEntriesMax];
  CompressionGates* gates = compress ? &gates_ : nullptr;
  const size_t used = LayOutFrames(slab, rows, count, gates, record, places);
  Place(record, count, holder, places);
  FinishRecord(record, count, used);
  return header->length;
}

bool Engine::FindSameNode(const uint8_t* hash, const uint8_t* node, FrameLocation* location,
                          bool may_block) {
  *location = {};
  FrameLocation known;
  const ReadResult found = Locate(hash, &known, may_block);
  if (found != ReadResult::kOk) return found != ReadResult::kWouldBlock;
  uint8_t raw[kNodeSize];
  const ReadResult read = Read(known, EntryKind::kNode, hash, raw, may_block);
  if (read == ReadResult::kWouldBlock) return false;
  const size_t hints_size = kNodeSize - kNodeHashedSize;
  if (read == ReadResult::kOk &&
      std::memcmp(raw + kNodeHashedSize, node + kNodeHashedSize, hints_size) == 0) {
    *location = known;
  }
  return true;
}

void Engine::Place(uint8_t* record, size_t count, const int32_t* holder, const uint32_t* places) {
  Entry* entries = EntriesOf(record);
  std::lock_guard lock(mutex_);
  for (size_t i = 0; i < count; i++) {
    if (holder[i] < 0) continue;
    entries[i].segment = HeaderOf(record)->segment;
    entries[i].place = places[holder[i]];
  }
}

void Engine::Written(const uint8_t* record) {
  std::lock_guard lock(mutex_);
  entries_.Forget(HeaderOf(record)->segment, HeaderOf(record)->offset);
}

// A duplicate is what has the same full hash, in a segment that will stay.
bool Engine::FindDuplicate(const uint8_t* hash, Entry* entry, EntryReader::Miss* miss) {
  miss->source = nullptr;
  const EntryAddress* address = index_.Find(Fingerprint(hash));
  if (address == nullptr || !sources_.Trusted(address->segment)) return false;
  const int error = entries_.Read(*address, entry, miss);
  if (error != 0 || !HasFrame(entry->kind) || !SameHash(entry->hash, hash)) return false;
  return damaged_.empty() || !damaged_.contains(KeyOf(entry->segment, entry->place));
}

// The lock is given up while the disk is waited for: the thread of the server needs it, too.
bool Engine::Fetch(const EntryReader::Miss& miss, std::unique_lock<std::mutex>* lock) {
  lock->unlock();
  auto page = EntryReader::Fetch(miss);
  lock->lock();
  if (page == nullptr) return false;
  entries_.Keep(std::move(page));
  return true;
}

void Engine::Remember(uint64_t fingerprint, EntryAddress address) {
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

// Forgets the oldest eighth of the segments, but for what is found by the index alone: the rest is
// no longer found as duplicates, that is all. Goes over a part of the index each time, so that
// nobody waits for all of it.
void Engine::EnforceLimit(uint32_t newest_segment) {
  newest_ = std::max(newest_, newest_segment);
  if (marking_) return;
  if (thinned_ == DedupIndex::kShards) {
    if (AllIndexBytes() <= index_bytes_limit_ - index_bytes_limit_ / kHeadroom) return;
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
  const size_t bytes = AllIndexBytes();
  if (bytes <= index_bytes_max_ - index_bytes_max_ / kHeadroom) {
    index_bytes_limit_ = index_bytes_max_;
  } else if (first_kept_ > newest_) {
    // What is left must stay: to look again at each record would take too long.
    index_bytes_limit_ = bytes + bytes / 8;
  }
}

// Lets others have the lock after each part of the index.
void Engine::InParts(const std::function<size_t(size_t shard)>& work) {
  for (size_t shard = 0; shard < DedupIndex::kShards;) {
    {
      std::lock_guard lock(mutex_);
      for (size_t slots = 0; slots < kSlotsAtOnce && shard < DedupIndex::kShards; shard++) {
        slots += work(shard);
      }
    }
    // Whoever waits for it would not be fast enough to get it otherwise.
    if (shard < DedupIndex::kShards) std::this_thread::sleep_for(kTurn);
  }
}

ReadResult Engine::Read(FrameLocation location, EntryKind kind, const uint8_t* hash, uint8_t* raw,
                        bool may_block) {
  const auto source = sources_.Get(location.segment);
  if (source == nullptr) return ReadResult::kGone;
  const size_t stored = PlaceStored(location.place);
  if (stored > RawSize(kind)) return ReadResult::kDamaged;
  uint8_t frame[kNodeSize];
  const int error = source->Read(frame, stored, PlaceOffset(location.place), may_block);
  if (error != 0) return error == EAGAIN ? ReadResult::kWouldBlock : ReadResult::kError;
  return RestoreFrame(frame, stored, kind, hash, raw) ? ReadResult::kOk : ReadResult::kDamaged;
}

ReadResult Engine::Locate(const uint8_t* hash, FrameLocation* location, bool may_block) {
  std::unique_lock lock(mutex_);
  const ReadResult result = LookUp(&index_, hash, location, may_block, &lock);
  if (result == ReadResult::kGone) return LookUp(&others_, hash, location, may_block, &lock);
  if (result != ReadResult::kOk) return result;
  if (!damaged_.contains(KeyOf(location->segment, location->place))) return result;
  FrameLocation other;
  const ReadResult another = LookUp(&others_, hash, &other, may_block, &lock);
  if (another == ReadResult::kWouldBlock) return another;
  if (another == ReadResult::kOk && !damaged_.contains(KeyOf(other.segment, other.place))) {
    *location = other;
  }
  return result;
}

ReadResult Engine::LookUp(DedupIndex* index, const uint8_t* hash, FrameLocation* location,
                          bool may_block, std::unique_lock<std::mutex>* lock) {
  Entry entry;
  int error = 0;
  EntryReader::Miss miss;
  do {
    const EntryAddress* address = index->Find(Fingerprint(hash));
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

bool Engine::ReadAnywhere(EntryKind kind, const uint8_t* hash, uint8_t* raw) {
  for (DedupIndex* index : {&index_, &others_}) {
    FrameLocation location;
    std::unique_lock lock(mutex_);
    const ReadResult found = LookUp(index, hash, &location, true, &lock);
    lock.unlock();
    if (found != ReadResult::kOk) continue;
    if (Read(location, kind, hash, raw, true) == ReadResult::kOk) return true;
  }
  return false;
}

void Engine::Distrust(FrameLocation location) {
  std::lock_guard lock(mutex_);
  damaged_.insert(KeyOf(location.segment, location.place));
}

void Engine::AddToIndex(const uint8_t* record, bool rebuilt) {
  const RecordHeader* header = HeaderOf(record);
  std::lock_guard lock(mutex_);
  for (size_t i = 0; i < header->entry_count; i++) {
    const Entry& entry = EntriesOf(record)[i];
    if (!HasFrame(entry.kind)) continue;
    EntryAddress address = AddressOf(*header, i);
    address.rebuilt = rebuilt ? 1 : 0;
    Remember(Fingerprint(entry.hash), address);
  }
  EnforceLimit(header->segment);
}

size_t Engine::Move(const uint8_t* source, size_t available, const uint8_t* chosen,
                    uint8_t* target) {
  size_t damaged = 0;
  if (CheckRecord(source, available, false, &damaged) != RecordState::kValid) return 0;
  const RecordHeader* from = HeaderOf(source);
  if (from->length > available) return 0;
  RecordHeader* to = HeaderOf(target);
  const size_t count =
      static_cast<size_t>(std::count(chosen, chosen + from->entry_count, uint8_t{1}));
  size_t used = sizeof(RecordHeader) + count * sizeof(Entry);
  Entry* next = EntriesOf(target);
  for (size_t i = 0; i < from->entry_count; i++) {
    if (chosen[i] == 0) continue;
    const Entry& entry = EntriesOf(source)[i];
    size_t stored = PlaceStored(entry.place);
    if (IsIntact(source, entry)) {
      std::memcpy(target + used, source + FrameStart(*from, entry), stored);
    } else {
      uint8_t raw[kNodeSize];
      if (!ReadAnywhere(entry.kind, entry.hash, raw)) return 0;
      CompressionGate gate;
      const size_t encoded = EncodeFrame(raw, RawSize(entry.kind), target + used, &gate);
      // The caller has room for a record as long as this one.
      if (encoded > stored) return 0;
      stored = encoded;
    }
    *next = entry;
    next->segment = to->segment;
    next->place = PackPlace(size_t{to->offset} * kRecordAlignment + used, stored);
    next++;
    used += stored;
  }
  FinishRecord(target, count, used);
  return to->length;
}

void Engine::MarkBegin() {
  InParts([this](size_t shard) { return index_.Unmark(shard); });
  std::lock_guard lock(mutex_);
  marked_unindexed_ = DedupIndex();
  marking_ = true;
}

bool Engine::Mark(const uint8_t* hash) {
  std::lock_guard lock(mutex_);
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

bool Engine::IsLive(const uint8_t* record, size_t index) {
  const Entry& entry = EntriesOf(record)[index];
  const EntryAddress own = AddressOf(*HeaderOf(record), index);
  Entry other;
  std::unique_lock lock(mutex_);
  for (;;) {
    const uint64_t fingerprint = Fingerprint(entry.hash);
    const EntryAddress* known = index_.Find(fingerprint);
    if (known == nullptr || known->marked == 0) {
      return marked_unindexed_.Find(fingerprint) != nullptr;
    }
    const bool is_known = known->segment == own.segment && known->record == own.record &&
                          known->index == own.index;
    // Hints lead here, or used to: another one is found for sure only where it was moved to.
    if (is_known || known->moved == 0) return true;
    EntryReader::Miss miss;
    if (FindDuplicate(entry.hash, &other, &miss)) break;
    if (miss.source == nullptr || !Fetch(miss, &lock)) return true;
  }
  lock.unlock();
  // Rare enough to be read: what is about to go may be the only intact one.
  uint8_t raw[kNodeSize];
  const FrameLocation location = {other.segment, other.place};
  return Read(location, entry.kind, entry.hash, raw, true) != ReadResult::kOk;
}

void Engine::MarkEnd() {
  std::lock_guard lock(mutex_);
  marking_ = false;
  marked_unindexed_ = DedupIndex();
}

void Engine::DropDetached() {
  const auto keep = [this](const EntryAddress& a) { return sources_.Attached(a.segment); };
  InParts([&](size_t shard) { return index_.Filter(shard, keep) + others_.Filter(shard, keep); });
}

size_t Engine::index_count() {
  std::lock_guard lock(mutex_);
  return index_.count();
}

size_t Engine::index_bytes() {
  std::lock_guard lock(mutex_);
  return AllIndexBytes();
}

}  // namespace aoe::cas
