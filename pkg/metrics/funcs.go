package metrics

import "github.com/prometheus/client_golang/prometheus"

// CounterFuncs registers a counter with one label whose values are asked for at
// each scrape, for counts that a part keeps itself. values is the label's values,
// all of them; read returns the present count of one.
func (r *Registry) CounterFuncs(name, help, label string, values []string, read func(value string) float64) {
	for _, value := range values {
		r.reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: name, Help: help, ConstLabels: prometheus.Labels{label: value},
		}, func() float64 { return read(value) }))
	}
}
