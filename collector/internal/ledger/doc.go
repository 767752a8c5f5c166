// Package ledger keeps the account by which a collector can say whether a host's trail is
// complete. For each host it reads what passes (statements of our forwarders, daemons' own
// records, the kernel's serials), and keeps in rows of an hour or a day what is proved to be
// there, what is known to be missing, and by what cause. Whatever no row speaks of is
// unknown: completeness is never assumed.
//
// A Host is fed by the head, record by record in the order of the journal, and hands over with
// each batch what has changed; the store keeps that in the transaction of the batch, so a
// replay counts nothing twice. Judge puts rows together. FORMAT.md has the bytes.
//
// It imports pkg only. head, store and api may import it.
package ledger
