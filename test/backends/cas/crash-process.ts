/** One of the processes that crash stores: until a time, with every nth seed from a first one on. */
import { crashUntil } from './crash-states.ts';

const [endMs, firstSeed, stride] = process.argv.slice(2).map(Number) as [number, number, number];
console.log(await crashUntil(endMs, firstSeed, stride));
