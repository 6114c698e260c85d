import { readFile, writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { NetworkNamespace } from '../support/netns.ts';
import { AoeServer } from '../support/server.ts';
import { describeWith, disposeAll, TempDirectory, waitUntil } from '../support/tools.ts';
import { decodeFrames } from './capture.ts';

vi.setConfig({ testTimeout: 90_000, hookTimeout: 30_000 });

const TOOLS = ['qemu-system-x86_64', 'tshark', 'ip', 'setpriv'];
const IPXE = '/boot/ipxe.lkrn';
const SECTOR_SIZE = 512;
const IMAGE_SIZE = 8 << 20;
const BOOT_TIMEOUT_MS = 60_000;

/** The boot sector reads this sector, */
const READ_SECTOR = 0x1234;
/** writes what it read to this one, and prints it. */
const WRITTEN_SECTOR = 0x1235;
const TEXT = 'served over Ethernet\r\n';

/**
 * A boot sector, loaded at 0x7c00, that copies one sector through the BIOS's disk service and
 * prints its text, up to a zero, on the first serial port. On an error it prints "disk error".
 */
function bootSector(): Buffer {
  const addressPacket = (sector: number) => {
    const packet = Buffer.alloc(16);
    packet.set([16, 0, 1, 0]); // size of the packet, reserved, one sector
    packet.writeUInt16LE(0x7e00, 4); // buffer at 0000:7e00
    packet.writeBigUInt64LE(BigInt(sector), 8);
    return packet;
  };
  // biome-ignore format: one instruction a line
  const code = Buffer.from([
    0xfa,             // 7c00      cli
    0x31, 0xc0,       //           xor ax, ax
    0x8e, 0xd8,       //           mov ds, ax
    0x8e, 0xc0,       //           mov es, ax
    0x8e, 0xd0,       //           mov ss, ax
    0xbc, 0x00, 0x7c, //           mov sp, 0x7c00
    0xfb,             //           sti
    0xb4, 0x42,       //           mov ah, 0x42        extended read from drive dl
    0xbe, 0x50, 0x7c, //           mov si, 0x7c50
    0xcd, 0x13,       //           int 0x13
    0x72, 0x0f,       //           jc fail
    0xb8, 0x00, 0x43, //           mov ax, 0x4300      extended write
    0xbe, 0x60, 0x7c, //           mov si, 0x7c60
    0xcd, 0x13,       //           int 0x13
    0x72, 0x05,       //           jc fail
    0xbe, 0x00, 0x7e, //           mov si, 0x7e00
    0xeb, 0x03,       //           jmp print
    0xbe, 0x70, 0x7c, // fail:     mov si, 0x7c70
    0xac,             // print:    lodsb
    0x84, 0xc0,       //           test al, al
    0x74, 0x12,       //           jz halt
    0x88, 0xc4,       //           mov ah, al
    0xba, 0xfd, 0x03, //           mov dx, 0x3fd       line status
    0xec,             // wait:     in al, dx
    0xa8, 0x20,       //           test al, 0x20
    0x74, 0xfb,       //           jz wait
    0xba, 0xf8, 0x03, //           mov dx, 0x3f8       data
    0x88, 0xe0,       //           mov al, ah
    0xee,             //           out dx, al
    0xeb, 0xe9,       //           jmp print
    0xf4,             // halt:     hlt
    0xeb, 0xfd,       //           jmp halt
  ]);
  const sector = Buffer.alloc(SECTOR_SIZE);
  sector.set(code);
  sector.set(addressPacket(READ_SECTOR), 0x50);
  sector.set(addressPacket(WRITTEN_SECTOR), 0x60);
  sector.write('disk error\r\n', 0x70);
  sector.set([0x55, 0xaa], SECTOR_SIZE - 2);
  return sector;
}

describeWith(TOOLS, 'iPXE', () => {
  let directory: TempDirectory;
  let namespace: NetworkNamespace;
  let server: AoeServer;

  beforeAll(async () => {
    directory = await TempDirectory.create();
    const image = Buffer.alloc(IMAGE_SIZE);
    image.set(bootSector());
    image.write(TEXT, READ_SECTOR * SECTOR_SIZE);
    await writeFile(directory.join('boot.img'), image);
    await writeFile(directory.join('script'), '#!ipxe\nifopen net0\nsanboot aoe:e3.5\n');

    namespace = await NetworkNamespace.create();
    await namespace.addTap('tap0');
    const targets = [{ shelf: 3, slot: 5, backend: 'file', file: { path: 'boot.img' } }];
    const options = { namespace, interfaces: ['tap0'], directory: directory.path, targets };
    server = await AoeServer.start(options);
  });

  afterAll(() => disposeAll(server, namespace, directory));

  it('boots from a target, reads it and writes to it', async () => {
    const qemu = namespace.spawn(
      'qemu-system-x86_64',
      [
        // iPXE finds its script only with enough memory below 4 GiB; 64 MiB are too little.
        ...['-accel', 'tcg', '-m', '256M', '-nodefaults', '-display', 'none', '-no-reboot'],
        ...['-kernel', IPXE, '-initrd', directory.join('script'), '-serial', 'stdio'],
        // With a virtio header before each frame tshark could not read the dump.
        ...['-netdev', 'tap,id=net,ifname=tap0,script=no,downscript=no,vnet_hdr=off'],
        // Without its own boot ROM: that one would go first.
        ...['-device', 'virtio-net-pci,netdev=net,romfile='],
        ...['-object', `filter-dump,id=dump,netdev=net,file=${directory.join('frames.pcap')}`],
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    let printed = '';
    qemu.stdout?.on('data', (chunk: Buffer) => {
      printed += chunk.toString('latin1');
    });
    const isDone = () => printed.includes(TEXT) || printed.includes('disk error');
    await waitUntil('booting', isDone, BOOT_TIMEOUT_MS);

    expect(printed).toContain(TEXT);
    const image = await readFile(directory.join('boot.img'));
    const written = image.subarray(WRITTEN_SECTOR * SECTOR_SIZE).subarray(0, SECTOR_SIZE);
    expect(written.toString('latin1')).toBe(TEXT.padEnd(SECTOR_SIZE, '\0'));
  });

  it('is answered in frames that tshark decodes without complaint', async () => {
    const frames = await decodeFrames(directory.join('frames.pcap'), [
      'aoe.response',
      'aoe.ata.cmd',
      'aoe.ata.status',
    ]);
    const replies = frames.filter((frame) => frame.fields['aoe.response'] === '1');
    expect(frames.flatMap((frame) => frame.complaints)).toEqual([]);
    const statuses = new Set(replies.map((frame) => frame.fields['aoe.ata.status']));
    // Config replies have no status; all else is DRDY.
    expect(statuses).toEqual(new Set(['', '0x40']));
  });
});
