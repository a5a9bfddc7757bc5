// What all tabs share: elements by name, new elements, errors, lists to choose from, canvases.
export const $ = (id) => document.getElementById(id);

export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

export function tell(text) {
  $("live").textContent = text;
}

// Shows in a box why something did not work.
export function showError(box, text) {
  box.hidden = false;
  box.replaceChildren(make("p", { className: "error", textContent: text }));
  tell(text);
}

// Fills a <select> with choices: values, or pairs [value, text].
export function fillSelect(select, choices) {
  select.replaceChildren(...choices.map((choice) => {
    const [value, textContent] = [choice].flat();
    return make("option", { value, textContent: textContent ?? value });
  }));
}

// Calls `paint` when the window gets another size, or changes between light and dark.
export function onNewLook(paint) {
  addEventListener("resize", paint);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
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
