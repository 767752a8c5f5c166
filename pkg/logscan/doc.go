// Package logscan reads logs: files with their rotated ones, compressed ones too,
// and pipes. It puts their records together into events, in the order in which
// ausearch prints them.
//
// Whatever has to see all events of a log goes through Scan. Each core has a Worker,
// which is given events in batches, in no known order; what each batch came to is
// delivered in the order of the events. A listing formats in Worker.Event, returns its
// text from Flush, and writes it in deliver. For sums there is no deliver: each worker
// adds up, and the caller adds the workers up at the end.
//
// pkg/search, pkg/report and the forwarder may import it; the collector's store does
// not.
package logscan
