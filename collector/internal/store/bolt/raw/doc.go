// Package raw reads a store's files as they lie on the disk, page by page: beside a
// server that writes them, and whatever is damaged in them. What the store's repair, verify,
// backup and salvage do with damaged bytes begins here. It takes no lock and writes nothing but
// copies. Only packages below store/bolt import it; it imports pages and layout.
package raw
