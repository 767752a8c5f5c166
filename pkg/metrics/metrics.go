// Package metrics is the names of what both daemons count and how they are
// registered and served: one Prometheus registry a process, handed in, never the
// global one. METRICS.md beside it documents every name; a test compares. Any
// package of either daemon may import it; it imports nothing of ours.
package metrics

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
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

// Gatherer is the registry as tests and other exporters read it.
func (r *Registry) Gatherer() prometheus.Gatherer { return r.reg }

// Counter registers a counter. A name registered twice is a programming error: it panics.
func (r *Registry) Counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	r.reg.MustRegister(c)
	return c
}

// Gauge registers a gauge.
func (r *Registry) Gauge(name, help string) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	r.reg.MustRegister(g)
	return g
}

// Histogram registers a histogram of seconds.
func (r *Registry) Histogram(name, help string, buckets []float64) prometheus.Histogram {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
	r.reg.MustRegister(h)
	return h
}

// CounterFunc registers a counter whose value is asked for at each scrape.
func (r *Registry) CounterFunc(name, help string, f func() float64) {
	r.reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, f))
}

// GaugeFunc registers a gauge whose value is asked for at each scrape.
func (r *Registry) GaugeFunc(name, help string, f func() float64) {
	r.reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f))
}

// ByReason registers a counter with a label of fixed values, so that each of
// them is there, at 0, from the start: a missing series can't be alerted on.
func (r *Registry) ByReason(name, help, label string, values ...string) *Reasons {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	r.reg.MustRegister(v)
	by := make(map[string]prometheus.Counter, len(values))
	for _, value := range values {
		by[value] = v.WithLabelValues(value)
	}
	return &Reasons{by: by, vec: v}
}

// Reasons is a counter with one label of a fixed set of values.
type Reasons struct {
	by  map[string]prometheus.Counter // never changed after ByReason
	vec *prometheus.CounterVec
}

// Add counts n for a reason. A reason that was not announced is counted too.
func (c *Reasons) Add(reason string, n int) {
	if one, ok := c.by[reason]; ok {
		one.Add(float64(n))
		return
	}
	c.vec.WithLabelValues(reason).Add(float64(n))
}

// Seconds are the buckets of our latencies: 50 µs (a stored batch on a fast
// disk) to 26 s in steps of a factor of two.
func Seconds() []float64 { return prometheus.ExponentialBuckets(50e-6, 2, 20) }
