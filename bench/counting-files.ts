import { type FileLayer, hostFiles, type StoreFile } from '../src/backends/cas/file-layer.ts';

/** The host's files, with a count of what is written to them. */
export class CountingFiles {
  writtenBytes = 0;
  readonly #host = hostFiles();
  readonly layer: FileLayer = {
    ...this.#host,
    open: async (path, create) => this.#counted(await this.#host.open(path, create)),
  };

  #counted(file: StoreFile): StoreFile {
    return {
      source: file.source,
      read: (bytes, position) => file.read(bytes, position),
      write: (bytes, length, position, sync) => {
        this.writtenBytes += length;
        return file.write(bytes, length, position, sync);
      },
      sync: () => file.sync(),
      size: () => file.size(),
      allocate: (sizeBytes) => file.allocate(sizeBytes),
      punch: (position, length) => file.punch(position, length),
      dataBytes: (position, length) => file.dataBytes(position, length),
      close: () => file.close(),
    };
  }
}
