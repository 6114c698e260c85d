#include "segment_sources.h"

#include <cerrno>
#include <cstring>

namespace aoe::cas {

int SegmentSource::Read(uint8_t* data, size_t length, size_t offset, bool may_block) const {
  if (memory_ != nullptr) {
    if (offset + length > size_) return EIO;
    std::memcpy(data, memory_ + offset, length);
    return 0;
  }
  if (!may_block) {
    const bool read = !remote_ && ReadCached(fd_.get(), data, length, static_cast<off_t>(offset));
    return read ? 0 : EAGAIN;
  }
  size_t done = 0;
  const int error = ReadOn(fd_.get(), data, length, static_cast<off_t>(offset), &done);
  if (error != 0) return error;
  return done < length ? EIO : 0;
}

void SegmentSources::Attach(uint32_t segment, std::shared_ptr<SegmentSource> source) {
  std::lock_guard lock(mutex_);
  sources_[segment] = std::move(source);
}

void SegmentSources::Detach(uint32_t segment) {
  std::lock_guard lock(mutex_);
  sources_.erase(segment);
  condemned_.erase(segment);
}

std::shared_ptr<SegmentSource> SegmentSources::Get(uint32_t segment) const {
  std::lock_guard lock(mutex_);
  const auto found = sources_.find(segment);
  return found == sources_.end() ? nullptr : found->second;
}

void SegmentSources::Condemn(uint32_t segment) {
  std::lock_guard lock(mutex_);
  condemned_.insert(segment);
}

bool SegmentSources::Trusted(uint32_t segment) const {
  std::lock_guard lock(mutex_);
  return sources_.contains(segment) && !condemned_.contains(segment);
}

bool SegmentSources::Attached(uint32_t segment) const {
  std::lock_guard lock(mutex_);
  return sources_.contains(segment);
}

}  // namespace aoe::cas
