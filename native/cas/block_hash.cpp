#include "block_hash.h"

#include <algorithm>
#include <cstring>

extern "C" {
#include "../blake3/blake3.h"
#include "../blake3/blake3_impl.h"
}

namespace aoe::cas {

namespace {

constexpr size_t kChunks = 4;     // of 1024 bytes, in an input
constexpr size_t kGroupMax = 64;  // inputs in flight: bounds the stack
// From here on lanes are filled across inputs; below, by the chunks of one input.
constexpr size_t kAcrossMin = 5;
constexpr size_t kOut = BLAKE3_OUT_LEN;

const blake3_hasher& Prototype(HashDomain domain) {
  static const auto* prototypes = [] {
    static blake3_hasher made[3];
    blake3_hasher_init_derive_key(&made[0], "aoe-server cas v1 block");
    blake3_hasher_init_derive_key(&made[1], "aoe-server cas v1 node");
    blake3_hasher_init_derive_key(&made[2], "aoe-server cas v1 record");
    return made;
  }();
  return prototypes[static_cast<size_t>(domain)];
}

void HashGroup(const uint32_t* key, const uint8_t* const* inputs, size_t count, uint8_t* hashes) {
  const uint8_t* pointers[kGroupMax * kChunks]{};
  uint8_t chunk_values[kGroupMax * kChunks * kOut];  // by input, then by chunk
  uint8_t parents[kGroupMax * 2 * kOut];
  constexpr uint8_t flags = DERIVE_KEY_MATERIAL;
  constexpr size_t blocks = BLAKE3_CHUNK_LEN / BLAKE3_BLOCK_LEN;
  if (count >= kAcrossMin) {
    uint8_t lane[kGroupMax * kOut];
    for (size_t chunk = 0; chunk < kChunks; chunk++) {
      for (size_t i = 0; i < count; i++) pointers[i] = inputs[i] + chunk * BLAKE3_CHUNK_LEN;
      blake3_hash_many(pointers, count, blocks, key, chunk, false, flags, CHUNK_START, CHUNK_END,
                       lane);
      for (size_t i = 0; i < count; i++) {
        std::memcpy(chunk_values + (i * kChunks + chunk) * kOut, lane + i * kOut, kOut);
      }
    }
  } else {
    for (size_t i = 0; i < count; i++) {
      for (size_t c = 0; c < kChunks; c++) pointers[c] = inputs[i] + c * BLAKE3_CHUNK_LEN;
      blake3_hash_many(pointers, kChunks, blocks, key, 0, true, flags, CHUNK_START, CHUNK_END,
                       chunk_values + i * kChunks * kOut);
    }
  }
  for (size_t i = 0; i < 2 * count; i++) pointers[i] = chunk_values + i * 2 * kOut;
  blake3_hash_many(pointers, 2 * count, 1, key, 0, false, flags | PARENT, 0, 0, parents);
  for (size_t i = 0; i < count; i++) pointers[i] = parents + i * 2 * kOut;
  blake3_hash_many(pointers, count, 1, key, 0, false, flags | PARENT | ROOT, 0, 0, hashes);
}

}  // namespace

void HashMany(HashDomain domain, const uint8_t* const* inputs, size_t count, uint8_t* hashes) {
  const uint32_t* key = Prototype(domain).key;
  for (size_t start = 0; start < count; start += kGroupMax) {
    const size_t group = std::min(kGroupMax, count - start);
    HashGroup(key, inputs + start, group, hashes + start * kOut);
  }
}

void HashNodes(const uint8_t* const* nodes, size_t count, uint8_t* hashes) {
  HashMany(HashDomain::kNode, nodes, count, hashes);
  for (size_t i = 0; i < count; i++) {
    if (IsZero(nodes[i], kNodeHashedSize)) std::memset(hashes + i * kHashSize, 0, kHashSize);
  }
}

void HashParts(HashDomain domain, const void* first, size_t first_size, const void* second,
               size_t second_size, uint8_t* hash) {
  blake3_hasher hasher = Prototype(domain);
  blake3_hasher_update(&hasher, first, first_size);
  blake3_hasher_update(&hasher, second, second_size);
  blake3_hasher_finalize(&hasher, hash, kOut);
}

}  // namespace aoe::cas
