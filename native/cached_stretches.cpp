#include "cached_stretches.h"

#include "file_system.h"

namespace aoe {

namespace {

constexpr off_t kBytes = 2 << 20;
constexpr auto kPeriod = std::chrono::seconds(1);

// To ask about all pages of a stretch takes as long as to ask about some forty reads.
constexpr uint32_t kReadsMin = 64;

bool IsCached(int fd, off_t number) { return MayBeCached(fd, kBytes, number * kBytes); }

}  // namespace

bool CachedStretches::Had(int32_t file, int fd, off_t offset, size_t length, Clock::time_point now) {
  const off_t number = offset / kBytes;
  if ((offset + static_cast<off_t>(length) - 1) / kBytes != number) return false;
  Stretch& stretch = At(file, number);
  const bool same = stretch.file == file && stretch.number == number;
  if (!same || now >= stretch.end) {
    const bool busy = same && stretch.reads >= kReadsMin;
    stretch = {.file = file,
               .number = number,
               .cached = busy && IsCached(fd, number),
               .end = now + kPeriod};
  }
  if (++stretch.reads == kReadsMin && !stretch.cached) stretch.cached = IsCached(fd, number);
  return stretch.cached;
}

void CachedStretches::Missed(int32_t file, off_t offset) {
  const off_t number = offset / kBytes;
  Stretch& stretch = At(file, number);
  if (stretch.file == file && stretch.number == number) stretch.cached = false;
}

CachedStretches::Stretch& CachedStretches::At(int32_t file, off_t number) {
  // Files of one size are often read alike: their stretches should not meet.
  constexpr size_t kSpread = 0x9e3779b1;
  return stretches_[(static_cast<size_t>(number) + static_cast<size_t>(file) * kSpread) % kCount];
}

}  // namespace aoe
