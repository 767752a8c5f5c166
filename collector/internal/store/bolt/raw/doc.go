// Package raw reads a store's files as they lie on the disk, page by page. It can do so
// beside a server that writes them, and whatever in them is damaged: damage becomes a
// Finding, and the rest is read. The store's repair, and verify, backup and salvage, are
// built on it. It takes no lock and writes nothing but copies. Only store/bolt and packages
// below it import it; it imports pages and layout.
package raw
