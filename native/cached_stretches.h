// Which stretches of files were in the page cache a moment ago, with all of their pages.
//
// To ask about each read whether its pages are there takes a third of the time that copying them takes.
// So a stretch that is read often is asked about as a whole, and counts as cached for a while. A page
// that is gone by then costs what asking had saved: the read of it begins where nobody should wait.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace aoe {

class CachedStretches {
 public:
  using Clock = std::chrono::steady_clock;

  // Was all of a range there a moment ago? Counts as a read of it. `file` is a number that no other
  // file has had, `fd` its descriptor.
  bool Had(int32_t file, int fd, off_t offset, size_t length, Clock::time_point now);

  // Takes notice that something of a stretch is not there any more.
  void Missed(int32_t file, off_t offset);

 private:
  struct Stretch {
    int32_t file = -1;
    uint32_t reads = 0;  // since it was begun
    off_t number = 0;    // offset in the file, in stretches
    bool cached = false;
    Clock::time_point end;  // when it is looked at anew
  };

  static constexpr size_t kCount = 4096;

  Stretch& At(int32_t file, off_t number);

  std::vector<Stretch> stretches_ = std::vector<Stretch>(kCount);
};

}  // namespace aoe
