/** A store counts in blocks, initiators and operators in sectors. */
export const SECTORS_PER_BLOCK = 8;
