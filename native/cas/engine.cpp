#include "engine.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

#include "block_hash.h"

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

bool IsZero(const uint8_t* bytes, size_t size) {
  return bytes[0] == 0 && std::memcmp(bytes, bytes + 1, size - 1) == 0;
}

RecordHeader* HeaderOf(uint8_t* record) { return reinterpret_cast<RecordHeader*>(record); }
const RecordHeader* HeaderOf(const uint8_t* record) {
  return reinterpret_cast<const RecordHeader*>(record);
}
Entry* EntriesOf(uint8_t* record) {
  return reinterpret_cast<Entry*>(record + sizeof(RecordHeader));
}
const Entry* EntriesOf(const uint8_t* record) {
  return reinterpret_cast<const Entry*>(record + sizeof(RecordHeader));
}

EntryAddress AddressOf(const RecordHeader& header, size_t index) {
  EntryAddress address;
  address.segment = header.segment;
  address.record = static_cast<uint16_t>(header.offset);
  address.index = static_cast<uint16_t>(index & 0xfff);
  address.moved = address.kept = header.type == kMovedRecord ? 1 : 0;
  return address;
}

// Where a frame of this record begins, counted from the start of the record.
size_t FrameStart(const RecordHeader& header, const Entry& entry) {
  return PlaceOffset(entry.place) - size_t{header.offset} * kRecordAlignment;
}

void FillEntries(const uint8_t* slab, const IngestRow* rows, size_t count, Entry* entries) {
  const uint8_t* inputs[2][kEntriesMax];
  size_t owners[2][kEntriesMax];
  size_t counts[2] = {0, 0};
  for (size_t i = 0; i < count; i++) {
    const IngestRow& row = rows[i];
    entries[i] = {.kind = row.kind,
                  .volume = row.volume,
                  .lba = uint64_t{row.lba_high} << 32 | row.lba_low,
                  .count = row.kind == EntryKind::kTrim ? row.count : 1};
    if (row.kind == EntryKind::kTrim) continue;
    const uint8_t* bytes = slab + row.memory;
    if (IsZero(bytes, kBlockSize)) {
      entries[i].kind = EntryKind::kZero;
      continue;
    }
    const size_t domain = row.kind == EntryKind::kNode ? 1 : 0;
    inputs[domain][counts[domain]] = bytes;
    owners[domain][counts[domain]++] = i;
  }
  uint8_t hashes[kEntriesMax * kHashSize];
  for (size_t domain = 0; domain < 2; domain++) {
    HashMany(static_cast<HashDomain>(domain), inputs[domain], counts[domain], hashes);
    for (size_t i = 0; i < counts[domain]; i++) {
      std::memcpy(entries[owners[domain][i]].hash, hashes + i * kHashSize, kHashSize);
    }
  }
}

bool SameHash(const uint8_t* a, const uint8_t* b) { return std::memcmp(a, b, kHashSize) == 0; }

// Restores a frame to `raw`. Returns whether that is what has this hash.
bool Restore(const uint8_t* frame, size_t stored, EntryKind kind, const uint8_t* hash,
             uint8_t* raw) {
  if (!DecodeFrame(frame, stored, raw, RawSize(kind))) return false;
  uint8_t actual[kHashSize];
  const uint8_t* inputs[] = {raw};
  const auto domain = kind == EntryKind::kNode ? HashDomain::kNode : HashDomain::kBlock;
  HashMany(domain, inputs, 1, actual);
  return SameHash(actual, hash);
}

// Is the frame in this record what its entry says?
bool IsIntact(const uint8_t* record, const Entry& entry) {
  const RecordHeader& header = *HeaderOf(record);
  const size_t start = FrameStart(header, entry);
  const size_t stored = PlaceStored(entry.place);
  if (start > header.length || stored > header.length - start) return false;
  uint8_t raw[kNodeSize];
  return Restore(record + start, stored, entry.kind, entry.hash, raw);
}

void FinishRecord(uint8_t* record, size_t count, size_t used) {
  RecordHeader* header = HeaderOf(record);
  header->entry_count = static_cast<uint32_t>(count);
  header->inline_length = 0;
  header->length = static_cast<uint32_t>(AlignUp(used, kRecordAlignment));
  std::memset(record + used, 0, header->length - used);
  Engine::Seal(record);
}

}  // namespace

size_t Engine::Ingest(const uint8_t* slab, const IngestRow* rows, size_t count, uint8_t* record,
                      bool compress, bool may_block) {
  RecordHeader* header = HeaderOf(record);
  Entry* entries = EntriesOf(record);
  FillEntries(slab, rows, count, entries);
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
  FinishRecord(record, count, LayOut(slab, rows, holder, count, compress, record));
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

size_t Engine::LayOut(const uint8_t* slab, const IngestRow* rows, const int32_t* holder,
                      size_t count, bool compress, uint8_t* record) {
  const RecordHeader& header = *HeaderOf(record);
  Entry* entries = EntriesOf(record);
  const size_t base = size_t{header.offset} * kRecordAlignment;
  size_t used = sizeof(RecordHeader) + count * sizeof(Entry);
  uint32_t places[kEntriesMax];
  for (size_t i = 0; i < count; i++) {
    if (!HasFrame(entries[i].kind)) continue;
    const uint8_t* raw = slab + rows[i].memory;
    size_t stored = RawSize(entries[i].kind);
    if (compress) {
      CompressionGate* gate = entries[i].kind == EntryKind::kNode ? &node_gate_ : &block_gate_;
      stored = EncodeFrame(raw, stored, record + used, gate);
    } else {
      std::memcpy(record + used, raw, stored);
    }
    places[i] = PackPlace(base + used, stored);
    used += stored;
  }
  // Who looks for the same content reads these entries already.
  std::lock_guard lock(mutex_);
  for (size_t i = 0; i < count; i++) {
    if (holder[i] < 0) continue;
    entries[i].segment = header.segment;
    entries[i].place = places[holder[i]];
  }
  return used;
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
  return Restore(frame, stored, kind, hash, raw) ? ReadResult::kOk : ReadResult::kDamaged;
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

void Engine::Seal(uint8_t* record) {
  RecordHeader* header = HeaderOf(record);
  HashParts(HashDomain::kRecord, record, kChecksummedHeaderSize, EntriesOf(record),
            header->entry_count * sizeof(Entry) + header->inline_length, header->checksum);
}

void Engine::HashNodes(const uint8_t* const* nodes, size_t count, uint8_t* hashes) {
  HashMany(HashDomain::kNode, nodes, count, hashes);
  for (size_t i = 0; i < count; i++) {
    if (IsZero(nodes[i], kNodeHashedSize)) std::memset(hashes + i * kHashSize, 0, kHashSize);
  }
}

RecordState Engine::Check(const uint8_t* record, size_t available, bool frames, size_t* damaged) {
  if (available < sizeof(RecordHeader)) return RecordState::kTorn;
  const RecordHeader* header = HeaderOf(record);
  if (header->magic != kRecordMagic || header->version != kFormatVersion) return RecordState::kTorn;
  if (header->entry_count > kEntriesMax) return RecordState::kTorn;
  const size_t described = header->entry_count * sizeof(Entry) + size_t{header->inline_length};
  const size_t needed = frames ? header->length : sizeof(RecordHeader) + described;
  if (sizeof(RecordHeader) + described > header->length || needed > available) {
    return RecordState::kTorn;
  }
  uint8_t checksum[kHashSize];
  HashParts(HashDomain::kRecord, record, kChecksummedHeaderSize, EntriesOf(record), described,
            checksum);
  if (!SameHash(checksum, header->checksum)) return RecordState::kTorn;
  if (!frames) return RecordState::kValid;
  for (size_t i = 0; i < header->entry_count; i++) {
    const Entry& entry = EntriesOf(record)[i];
    if (!HasFrame(entry.kind) || IsIntact(record, entry)) continue;
    *damaged = i;
    return RecordState::kDamagedFrame;
  }
  return RecordState::kValid;
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
  if (Check(source, available, false, &damaged) != RecordState::kValid) return 0;
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
