// Package report is the language of aureport: its options, its reports, which
// events each of them is about and how a line of it is made. What a report is
// stands in one table (reports.go); reading an event, counting and writing are the
// same for all. Both command lines may import it.
package report
