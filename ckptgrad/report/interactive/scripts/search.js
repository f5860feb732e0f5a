// Shows the rows of a table in which every word is found.
const words = search.value_input.toLowerCase().split(/\s+/).filter((word) => word)
const columns = Object.values(cells.data)
const shown = []
for (let i = 0; i < columns[0].length; i++) {
  const text = columns.map((column) => column[i]).join(" ").toLowerCase()
  if (words.every((word) => text.includes(word))) shown.push(i)
}
rows.indices = shown
