// Clips that are dropped on the page or pasted into it, as files or addresses. Used by new_job.js.

/**
 * Links must be dropped on `area`, files may be dropped anywhere. `onFile(file)` and `onUrl(url)` are
 * called if `canAccept()`.
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
    accept(event.dataTransfer, 'text/uri-list');
  });
  document.addEventListener('paste', (event) => {
    const isTyping = event.target.closest?.('input:not([type=file])');
    if (!isTyping || event.clipboardData?.files.length) accept(event.clipboardData, 'text');
  });

  function accept(transfer, kind) {
    if (!transfer || !canAccept()) return;
    const text = transfer.getData(kind).trim();
    if (transfer.files.length) onFile(transfer.files[0]);
    else if (/^https?:\/\/\S+$/.test(text)) onUrl(text);
  }
}
