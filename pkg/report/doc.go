// Package report implements aureport: it parses aureport's options, defines the reports,
// selects the events of each report, and writes the lines and summaries. One table
// (reports.go) defines every report: which events it selects, the columns of its lines
// and what its summary counts. The code that reads events, counts values and writes lines
// is the same for all reports. Both command lines may import it.
package report
