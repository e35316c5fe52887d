// sharp makes thumbnails of one file: sharp.cjs FILE SIDE COUNT AT_ONCE. Each is a pixel larger than the one before, is turned as
// EXIF says, and has nothing of the file but its pixels. Prints the seconds from the first to the last.
const fs = require('node:fs/promises');
const sharp = require('sharp');

const [file, ...numbers] = process.argv.slice(2);
const [side, count, atOnce] = numbers.map(Number);

sharp.cache(false);

async function make(side) {
  const source = await fs.readFile(file);
  const shape = { width: side, height: side, fit: 'inside', withoutEnlargement: true };
  await sharp(source).rotate().resize(shape).jpeg({ quality: 82 }).toBuffer();
}

async function main() {
  await make(10);
  const began = performance.now();
  let next = 0;
  const slot = async () => {
    while (next < count) await make(side + next++);
  };
  await Promise.all(Array.from({ length: atOnce }, slot));
  console.log((performance.now() - began) / 1000);
}

main().catch((error) => { console.error(error); process.exit(1); });
