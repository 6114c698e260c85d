// Where the bytes of segments are, by segment number: a file, or memory that is as good as one.
// Thread-safe. A source that is removed stays usable for whoever has it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <unordered_set>

#include "../file_system.h"
#include "../unique_fd.h"

namespace aoe::cas {

class SegmentSource {
 public:
  explicit SegmentSource(UniqueFd fd) : fd_(std::move(fd)), remote_(IsRemoteFile(fd_.get())) {
    KeepAccessTime(fd_.get());
  }
  SegmentSource(const uint8_t* memory, size_t size) : memory_(memory), size_(size) {}

  // Reads exactly `length` bytes. Returns 0, an errno, or EAGAIN when it would block and
  // `may_block` is false. Beyond the end is EIO.
  int Read(uint8_t* data, size_t length, size_t offset, bool may_block) const;

 private:
  UniqueFd fd_;
  bool remote_ = false;  // any read may block, one of what is cached too
  const uint8_t* memory_ = nullptr;
  size_t size_ = 0;
};

class SegmentSources {
 public:
  void Attach(uint32_t segment, std::shared_ptr<SegmentSource> source);
  void Detach(uint32_t segment);
  std::shared_ptr<SegmentSource> Get(uint32_t segment) const;

  // A condemned segment can be read, but nothing new may rely on it: it is about to go.
  void Condemn(uint32_t segment);
  bool Trusted(uint32_t segment) const;
  bool Attached(uint32_t segment) const;

 private:
  mutable std::mutex mutex_;
  std::unordered_map<uint32_t, std::shared_ptr<SegmentSource>> sources_;
  std::unordered_set<uint32_t> condemned_;
};

}  // namespace aoe::cas
