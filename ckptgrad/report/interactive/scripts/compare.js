// Compares cells as what they say: bytes with their units, numbers, percentages; text by its letters.
const UNITS = {B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40}
const value_of = (cell) => {
  const match = /^\s*([+-]?[\d,]*\.?\d+(?:e[+-]?\d+)?)\s*(B|KiB|MiB|GiB|TiB|%)?/i.exec(String(cell))
  return match ? Number(match[1].replaceAll(",", "")) * (UNITS[match[2]] ?? 1) : NaN
}
const [a, b] = [value_of(x), value_of(y)]
if (Number.isNaN(a) && Number.isNaN(b)) return String(x).localeCompare(String(y))
if (Number.isNaN(a)) return -1
if (Number.isNaN(b)) return 1
return Math.sign(a - b)
