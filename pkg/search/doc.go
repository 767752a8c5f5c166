// Package search is the language of ausearch: its options, which values of an
// event each of them looks at, and whether an event matches. The collector's
// index is built from the same Extractor that the Matcher uses, so that the
// index can never know another answer. The collector's store and query API, both
// command lines and pkg/report may import it.
package search
