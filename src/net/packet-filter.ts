/**
 * Classic BPF programs that choose frames in the kernel (linux/filter.h). A program is a list of
 * requirements: the first that is not met refuses the frame.
 */

/** Instruction codes. */
const Code = {
  loadWord: 0x20,
  loadHalf: 0x28,
  loadByte: 0x30,
  and: 0x54,
  addX: 0x0c,
  modulo: 0x94,
  jumpIfEqual: 0x15,
  copyToX: 0x07,
  return: 0x06,
} as const;

/** Loads from here on read what the kernel knows about a frame. */
const ANCILLARY = 0xffff_f000;
/** Where to load from: bytes from the destination MAC, or this. */
export const Ancillary = { packetType: ANCILLARY + 4 } as const;

/** The kernel's words for whom a frame is addressed to (linux/if_packet.h). */
export const PacketType = { host: 0, otherHost: 3 } as const;

const ACCEPT_WHOLE_FRAME = 0x40000;
const REFUSE = 0;
/** Placeholder for a jump to the accepting end. */
const TO_ACCEPT = -1;

type Instruction = [code: number, onTrue: number, onFalse: number, operand: number];

export class PacketFilter {
  readonly #program: Instruction[] = [];

  loadWord(offset: number): this {
    return this.#add(Code.loadWord, offset);
  }

  loadHalf(offset: number): this {
    return this.#add(Code.loadHalf, offset);
  }

  loadByte(offset: number): this {
    return this.#add(Code.loadByte, offset);
  }

  and(mask: number): this {
    return this.#add(Code.and, mask);
  }

  modulo(divisor: number): this {
    return this.#add(Code.modulo, divisor);
  }

  /** Keeps the value for {@link addKept}. */
  keep(): this {
    return this.#add(Code.copyToX, 0);
  }

  addKept(): this {
    return this.#add(Code.addX, 0);
  }

  /** Refuses the frame unless the value is `wanted`. */
  require(wanted: number): this {
    this.#program.push([Code.jumpIfEqual, 1, 0, wanted]);
    return this.#add(Code.return, REFUSE);
  }

  /** Refuses the frame if the value is `unwanted`. */
  refuse(unwanted: number): this {
    this.#program.push([Code.jumpIfEqual, 0, 1, unwanted]);
    return this.#add(Code.return, REFUSE);
  }

  /** Accepts the frame, whatever follows, if the value is `wanted`. */
  acceptIf(wanted: number): this {
    this.#program.push([Code.jumpIfEqual, TO_ACCEPT, 0, wanted]);
    return this;
  }

  /** Leaves out what `build` adds if the value is `wanted`. */
  unless(wanted: number, build: (filter: this) => void): this {
    const jump: Instruction = [Code.jumpIfEqual, 0, 0, wanted];
    this.#program.push(jump);
    const start = this.#program.length;
    build(this);
    jump[1] = this.#program.length - start;
    return this;
  }

  /** The program: four numbers for each instruction. A frame that meets all is accepted. */
  build(): Uint32Array {
    const end = this.#program.length;
    const resolved = this.#program.map(([code, onTrue, onFalse, operand], index) => {
      const target = onTrue === TO_ACCEPT ? end - index - 1 : onTrue;
      return [code, target, onFalse, operand];
    });
    return new Uint32Array([...resolved, [Code.return, 0, 0, ACCEPT_WHOLE_FRAME]].flat());
  }

  #add(code: number, operand: number): this {
    this.#program.push([code, 0, 0, operand]);
    return this;
  }
}
