// Clips that come without being picked: dropped on the page or pasted into it, as files or addresses.

/**
 * `area` is where links are dropped and what lights up under a file. `onFile(file)` and `onUrl(url)`
 * are called while `canAccept()`.
 */
export function acceptDropAndPaste(area, { canAccept, onFile, onUrl }) {
  const carries = (event, kind) => [...(event.dataTransfer?.types ?? [])].includes(kind);
  const isClip = (event) => carries(event, 'Files')
    || (carries(event, 'text/uri-list') && area.contains(event.target));
  addEventListener('dragover', (event) => {
    if (!isClip(event)) return;
    event.preventDefault();
    area.classList.add('is-drag-over');
  });
  addEventListener('dragleave', (event) => {
    if (!area.contains(event.relatedTarget)) area.classList.remove('is-drag-over');
  });
  addEventListener('drop', (event) => {
    area.classList.remove('is-drag-over');
    if (!isClip(event)) return;
    event.preventDefault(); // a file that misses the area must not replace the page
    take(event.dataTransfer, 'text/uri-list');
  });
  document.addEventListener('paste', (event) => {
    const isTyping = event.target.closest?.('input:not([type=file])');
    if (!isTyping || event.clipboardData?.files.length) take(event.clipboardData, 'text');
  });

  function take(carried, kind) {
    if (!carried || !canAccept()) return;
    const text = carried.getData(kind).trim();
    if (carried.files.length) onFile(carried.files[0]);
    else if (/^https?:\/\/\S+$/.test(text)) onUrl(text);
  }
}
