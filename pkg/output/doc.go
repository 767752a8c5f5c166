// Package output writes events in the stock tools' formats (raw, default, interpret, csv,
// text), byte for byte as ausearch 3.0.9 does, as JSON (JSON.md), and as lines that people
// read. pkg/search,
// pkg/report and both command lines may import it.
package output
