// Counts latencies in steps of equal size within each power of two: each is known to 1.6 %.
#pragma once

#include <stdint.h>

enum { OCTAVE_STEPS = 64, HISTOGRAM_SIZE = 64 * OCTAVE_STEPS };

struct histogram {
  uint64_t counts[HISTOGRAM_SIZE];
  uint64_t total;
};

static inline void histogram_add(struct histogram *histogram, uint64_t ns) {
  unsigned index = (unsigned)ns;
  if (ns >= OCTAVE_STEPS) {
    unsigned octave = 58u - (unsigned)__builtin_clzll(ns);
    index = octave * OCTAVE_STEPS + (unsigned)(ns >> (octave - 1)) - OCTAVE_STEPS;
  }
  histogram->counts[index]++;
  histogram->total++;
}

// The middle of a step, in nanoseconds.
static inline double histogram_value(unsigned index) {
  if (index < OCTAVE_STEPS) return index;
  double step = (double)(1ull << (index / OCTAVE_STEPS - 1));
  return (index % OCTAVE_STEPS + OCTAVE_STEPS + 0.5) * step;
}

// The latency that a fraction of all do not exceed, in nanoseconds; 0 if there are none.
static inline double histogram_percentile(const struct histogram *histogram, double fraction) {
  double wanted = (double)histogram->total * fraction;
  uint64_t seen = 0;
  for (unsigned i = 0; i < HISTOGRAM_SIZE; i++) {
    seen += histogram->counts[i];
    if (seen > 0 && (double)seen >= wanted) return histogram_value(i);
  }
  return 0;
}
