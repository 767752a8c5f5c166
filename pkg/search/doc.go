// Package search is the language of ausearch: its options, which values of an
// event each of them looks at, and whether an event matches. The collector's
// index is built from the same Extractor that the Matcher uses, so that the
// index can never know another answer. The collector's store and query API, both
// command lines and pkg/report may import it.
//
// Whatever has to see all events of a log goes through ScanLogs: a Worker for each
// core is given events in batches, in no known order, and what each batch came to
// is delivered in the order of the events. A
// listing formats in Worker.Event, hands its text over in Flush, and writes it in
// deliver; sums are kept by each worker, without a deliver, and added up at the
// end.
package search
