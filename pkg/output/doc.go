// Package output writes events in the stock tools' formats (raw, default, interpret, csv,
// text), byte for byte as ausearch 3.0.9 does, and as JSON (JSON.md). pkg/search,
// pkg/report and both command lines may import it.
package output
