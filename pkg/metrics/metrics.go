// Package metrics declares everything that the two daemons count. Each metric is declared
// once, as a field of a struct of this package; the field's tag has its name, label and
// help. A constructor for each struct registers it with the process's Prometheus
// registry, which is passed in and is never the global one. METRICS.md in this folder
// documents every metric; tests compare them. Any package of either daemon may import it;
// it imports no other package of this module.
//
// There are two kinds of structs. A value that no other part counts is counted here: a
// New function returns a struct of counters, gauges and histograms, which the caller
// changes as things happen. These are safe for concurrent use. A value that a part counts
// itself is read at each scrape: a Read function takes a function that returns a struct
// of plain numbers. A scrape calls it from its own goroutine, so that function must be
// safe to call at any time.
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

// Registry holds the metrics of one process.
type Registry struct {
	reg *prometheus.Registry
}

// New returns a registry that already contains the metrics of the Go runtime and the
// process.
func New() *Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return &Registry{reg: reg}
}

// Handler returns a handler that serves the registry in Prometheus' text format.
func (r *Registry) Handler() http.Handler {
	return promhttp.HandlerFor(r.reg, promhttp.HandlerOpts{})
}

// Reasons is a counter with one label. Any goroutine may call Add: the map by is written
// only while the struct is constructed, before anybody else has it, and Prometheus'
// counters and vectors are safe for concurrent use.
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

// Add adds n to the counter of one value of the label. The value need not have been
// announced.
func (c *Reasons) Add(value string, n int) {
	one, ok := c.by[value]
	if !ok {
		one = c.vec.WithLabelValues(value)
	}
	one.Add(float64(n))
}
