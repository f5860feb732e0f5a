// Chooses the moment at the place of the click.
const M = moments.data
for (let k = 0; k < M.left.length; k++) {
  if (M.left[k] <= cb_obj.x && cb_obj.x < M.right[k]) {
    slider.value = k
    break
  }
}
