// Gives the focus to everything that can have it, and returns how much that was, and what of it a reader would not see.
const numbers = (colour) => colour.match(/[\d.]+/g).map(Number);
const isOpaque = (colour) => colour.startsWith("rgb(") || numbers(colour)[3] === 1;
const luminance = (colour) => {
  const [r, g, b] = numbers(colour).map((part) => part / 255).map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const contrast = (one, other) => {
  const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
};
const behind = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const colour = getComputedStyle(at).backgroundColor;
    if (isOpaque(colour)) return colour;
  }
  return "rgb(255, 255, 255)";
};
const all = [...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']")];
const visible = all.filter((element) => element.checkVisibility());
const wrong = [];
for (const element of visible) {
  element.focus();
  const isDrawn = element instanceof SVGElement;
  const style = getComputedStyle(isDrawn ? element.querySelector("rect") : element);
  const [colour, width] = isDrawn ? [style.stroke, style.strokeWidth] : [style.outlineColor, style.outlineWidth];
  const isSeen = isDrawn ? style.stroke !== "none" : style.outlineStyle !== "none";
  const ratio = isSeen ? contrast(colour, behind(element.parentElement)) : 0;
  if (document.activeElement !== element || parseFloat(width) < 2 || ratio < 3) {
    wrong.push(`${element.outerHTML.slice(0, 120)}: ${colour} on ${behind(element.parentElement)}, ${width}, ${ratio.toFixed(1)}:1`);
  }
}
return [visible.length, wrong];
