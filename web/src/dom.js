// What all tabs share: elements by name, new elements, words for screen readers.
export const $ = (id) => document.getElementById(id);

export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

export function tell(text) {
  $("live").textContent = text;
}

// A canvas made as large as it is shown, its pen in CSS pixels: {pen, width, height}.
export function openCanvas(canvas) {
  const ratio = devicePixelRatio, width = canvas.clientWidth, height = canvas.clientHeight, pen = canvas.getContext("2d");
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  pen.scale(ratio, ratio);
  return { pen, width, height };
}

export const ink = (name) => getComputedStyle(document.body).getPropertyValue(name);
