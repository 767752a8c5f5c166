// Package metrics declares everything that the two daemons count: each metric once, as
// a field of one of this package's structs, with its name, label and help in the
// field's tag. A constructor a struct registers it with one Prometheus registry a
// process, which is handed in, never the global one. METRICS.md beside it documents
// every metric; tests compare. Any package of either daemon may import it; it imports
// nothing of ours.
//
// There are two kinds of structs. What nobody else counts is counted here: New… returns
// a struct of counters, gauges and histograms, to be changed as things happen. What a
// part counts itself is read at each scrape: Read… takes a function that returns a
// struct of plain numbers.
package metrics

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// The beginnings of the metrics' names.
const (
	collector = "auditfleet_collector_"
	host      = "auditfleet_host_"
	forwarder = "auditfleet_forwarder_"
)

// Registry is one process's metrics.
type Registry struct {
	reg *prometheus.Registry
}

// New returns a registry that already has the Go runtime's and the process's own.
func New() *Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return &Registry{reg: reg}
}

// Handler serves the registry in Prometheus' text format.
func (r *Registry) Handler() http.Handler {
	return promhttp.HandlerFor(r.reg, promhttp.HandlerOpts{})
}

// Reasons is a counter with one label.
type Reasons struct {
	by  map[string]prometheus.Counter // not changed any more once the struct is constructed
	vec *prometheus.CounterVec
}

// announce has the label's values there, at 0, from the start: a missing series can't
// be alerted on.
func (c *Reasons) announce(values ...string) {
	for _, v := range values {
		c.by[v] = c.vec.WithLabelValues(v)
	}
}

// Add counts n for a value of the label, also for one that was not announced.
func (c *Reasons) Add(value string, n int) {
	one, ok := c.by[value]
	if !ok {
		one = c.vec.WithLabelValues(value)
	}
	one.Add(float64(n))
}
