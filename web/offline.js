// A service worker: keeps the files of the page, so that it works without a network,
// and isolates the page, which lets WebAssembly use threads on any server.

const STORE = "files";
// What a page has loaded before this worker first starts; all else passes through it.
const FIRST = ["./", "style.css", "page.js", "icon.svg"];

self.addEventListener("install", (event) => {
  self.skipWaiting();
  event.waitUntil(Promise.all(FIRST.map((name) => answer(new Request(name)))));
});
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("fetch", (event) => {
  if (event.request.method === "GET") event.respondWith(answer(event.request));
});

/** The file from the server, or else the one kept from the last visit. */
async function answer(request) {
  const store = await caches.open(STORE);
  try {
    const response = await fetch(request);
    if (!response.ok) return response;
    const isolated = isolate(response);
    await store.put(request, isolated.clone());
    return isolated;
  } catch (error) {
    const kept = await store.match(request, { ignoreSearch: true });
    if (kept) return kept;
    throw error;
  }
}

function isolate(response) {
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  return new Response(response.body, { status: response.status, headers });
}
