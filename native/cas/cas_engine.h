// The content-addressed store's engine as a JavaScript object.
//
//   new CasEngine(indexBytesMax)
//   .attach(segment, fd | bytes)  where a segment's bytes are; fd is duplicated, bytes kept alive
//   .detach(segment)  .condemn(segment)
//   .ingestNow(slab, rows, count, record, compress)  record length; 0 when it would block
//   .ingest(...)      the same on a thread of its own, as a promise
//   .written(record)  the record can be read from its segment from now on
//   .readNow(segment, place, kind, words, index, out, outOffset)  ReadResult; never blocks
//   .read(...)        the same on a thread of its own, as a promise
//   .locateNow(words, index, out) 1 when found, 0 when not, -1: would block; out: [segment, place]
//   .locate(...)      the same on a thread of its own, as a promise: 1 or 0
//   .distrust(segment, place)     the frame there is damaged: no duplicate may rely on it
//   .check(record, frames)        -1 valid, -2 torn, else the index of the first damaged frame
//   .verify(record)   check with frames on a thread of its own, as a promise
//   .seal(record)     writes the checksum
//   .addToIndex(record, isRebuilt)
//   .move(source, chosen, target) promise of the new record's length; 0: a frame is damaged
//   .markBegin()  .dropDetached() on a thread of their own; promise of 0
//   .mark(words, count)  .markEnd()
//   .marked(record, flags)        promise of how many bytes of it must stay; flags: which entries
//   .hash(domain, bytes, count, out)   hashes `count` inputs of 4096 bytes
//   .hashNodes(nodes, out)        hashes tree nodes on a thread of its own; promise of 0
//   .indexCount()  .indexBytes()
//
// rows: Int32Array, 6 a row, see IngestRow. words: Uint32Array that holds hashes, 8 words each,
// `index` in words. Memory handed to a promise must stay as it is until it settles.
#pragma once

#include <napi.h>

#include "../task_threads.h"
#include "engine.h"

namespace aoe::cas {

class CasEngine final : public Napi::ObjectWrap<CasEngine> {
 public:
  static void Register(Napi::Env env, Napi::Object exports);

  explicit CasEngine(const Napi::CallbackInfo& info);

 private:
  void Attach(const Napi::CallbackInfo& info);
  void Detach(const Napi::CallbackInfo& info);
  void Condemn(const Napi::CallbackInfo& info);
  Napi::Value IngestNow(const Napi::CallbackInfo& info);
  Napi::Value Ingest(const Napi::CallbackInfo& info);
  void Written(const Napi::CallbackInfo& info);
  Napi::Value ReadNow(const Napi::CallbackInfo& info);
  Napi::Value Read(const Napi::CallbackInfo& info);
  Napi::Value LocateNow(const Napi::CallbackInfo& info);
  Napi::Value Locate(const Napi::CallbackInfo& info);
  void Distrust(const Napi::CallbackInfo& info);
  Napi::Value Check(const Napi::CallbackInfo& info);
  Napi::Value Verify(const Napi::CallbackInfo& info);
  void Seal(const Napi::CallbackInfo& info);
  void AddToIndex(const Napi::CallbackInfo& info);
  Napi::Value Move(const Napi::CallbackInfo& info);
  Napi::Value MarkBegin(const Napi::CallbackInfo& info);
  Napi::Value Mark(const Napi::CallbackInfo& info);
  Napi::Value Marked(const Napi::CallbackInfo& info);
  void MarkEnd(const Napi::CallbackInfo& info);
  Napi::Value DropDetached(const Napi::CallbackInfo& info);
  Napi::Value Hash(const Napi::CallbackInfo& info);
  Napi::Value HashNodes(const Napi::CallbackInfo& info);
  Napi::Value IndexCount(const Napi::CallbackInfo& info);
  Napi::Value IndexBytes(const Napi::CallbackInfo& info);

  Engine engine_;
  Napi::ObjectReference memories_;  // attached memory by segment
  TaskThreads threads_;             // the last member: it waits for those who use the others
};

}  // namespace aoe::cas
