// Lists what is held at the moment of the slider, or everything, as far as the search finds it; and sums it up by layer.
// The arrays that transients are estimated to be are listed and not summed up. The line stands where the moment holds most.
const k = slider.value
const L = lives.data
const words = search.value_input.toLowerCase().split(/\s+/).filter((word) => word)
const size_of = (bytes) => {
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (bytes < 1024) return unit == "B" ? `${bytes} B` : `${bytes.toFixed(1)} ${unit}`
    bytes /= 1024
  }
  return `${bytes.toFixed(1)} TiB`
}
const shown = []
const by_layer = new Map()
let total = 0
let count = 0
for (let i = 0; i < named; i++) {
  const alive = L.first[i] <= k && k <= L.last[i]
  if (!alive && !every.active) continue
  const text = `${L.kind[i]} ${L.type[i]} ${L.what[i]} ${L.layer[i]} ${L.line[i]}`.toLowerCase()
  if (!words.every((word) => text.includes(word))) continue
  shown.push(i)
  if (!alive || L.estimate[i]) continue
  count += 1
  total += L.bytes[i]
  const layer = L.kind[i] == "results" ? "results of the call"
    : L.layer[i] || L.line[i] || (L.stage[i] === "" ? L.what[i] : `stage ${L.stage[i]}`)
  const sum = by_layer.get(layer) ?? {bytes: 0, count: 0}
  by_layer.set(layer, {bytes: sum.bytes + L.bytes[i], count: sum.count + 1})
}
rows.indices = shown
const sums = [...by_layer].sort((a, b) => b[1].bytes - a[1].bytes)
layers.data = {
  size: sums.map(([, sum]) => size_of(sum.bytes)),
  share: sums.map(([, sum]) => `${((100 * sum.bytes) / total).toFixed(0)} %`),
  layer: sums.map(([layer]) => layer),
  count: sums.map(([, sum]) => sum.count),
}
const M = moments.data
head.text = ""
const line = document.createElement("span")
line.textContent =
  `during the ${M.words[k]}: ${size_of(M.bytes[k])} held; ` +
  `${count} of ${words.length ? "the buffers found" : "its buffers"} listed, ${size_of(total)}`
head.text = line.innerHTML
for (const mark of marks) mark.location = M.at[k]
for (const span of spans) span.setv({left: M.left[k], right: M.right[k]})
