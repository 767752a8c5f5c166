package metrics

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A field's tag declares its metric: `metric:"rest_of_the_name" help:"text"`, and
// label:"name" where it has a label. A name that ends in _total is a counter's, any
// other a gauge's.
const (
	tagName  = "metric"
	tagHelp  = "help"
	tagLabel = "label"
)

// latencies are the buckets of histograms, in seconds: 50 µs (a stored batch on a fast
// disk) to 26 s, each twice the one before.
var latencies = prometheus.ExponentialBuckets(50e-6, 2, 20)

// count makes a struct of the metrics that are counted in its fields, and registers
// them. A name registered twice, or a field of another type, is a mistake in the
// program: it panics.
func count[T any](r *Registry, prefix string) *T {
	m := new(T)
	v := reflect.ValueOf(m).Elem()
	for i, f := range reflect.VisibleFields(v.Type()) {
		name, help := prefix+f.Tag.Get(tagName), f.Tag.Get(tagHelp)
		var c prometheus.Collector
		var field any
		switch v.Field(i).Interface().(type) {
		case *Reasons:
			vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{f.Tag.Get(tagLabel)})
			c, field = vec, &Reasons{by: map[string]prometheus.Counter{}, vec: vec}
		default:
			c = newMetric(f.Type, name, help)
			field = c
		}
		r.reg.MustRegister(c)
		v.Field(i).Set(reflect.ValueOf(field))
	}
	return m
}

func newMetric(t reflect.Type, name, help string) prometheus.Collector {
	switch t {
	case reflect.TypeFor[prometheus.Counter]():
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	case reflect.TypeFor[prometheus.Gauge]():
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	case reflect.TypeFor[prometheus.Histogram]():
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: latencies})
	}
	panic(fmt.Sprintf("metric %s: nothing is counted in a %s", name, t))
}

// read registers the metrics of a struct of plain numbers, which is asked for at each
// scrape: numbers, flags (1 or 0), durations (in seconds), and maps from a label's
// value to a number.
func read[T any](r *Registry, prefix string, sample func() T) {
	readEach(r, prefix, func(yield func(T)) { yield(sample()) })
}

// readEach is read for any number of structs, which a field with a label but no name
// tells apart: it holds the label's value.
func readEach[T any](r *Registry, prefix string, each func(yield func(T))) {
	s := &samples[T]{each: each, key: -1}
	fields := reflect.VisibleFields(reflect.TypeFor[T]())
	var key []string
	for i, f := range fields {
		if f.Tag.Get(tagName) == "" && f.Tag.Get(tagLabel) != "" {
			s.key, key = i, []string{f.Tag.Get(tagLabel)}
		}
	}
	for i, f := range fields {
		name := f.Tag.Get(tagName)
		if name == "" {
			continue
		}
		labels := key
		if f.Type.Kind() == reflect.Map {
			labels = append(slices.Clone(key), f.Tag.Get(tagLabel))
		}
		kind := prometheus.GaugeValue
		if strings.HasSuffix(name, "_total") {
			kind = prometheus.CounterValue
		}
		s.series = append(s.series, series{i, kind, prometheus.NewDesc(prefix+name, f.Tag.Get(tagHelp), labels, nil)})
	}
	r.reg.MustRegister(s)
}

// series is a metric and the field that its values come from.
type series struct {
	field int
	kind  prometheus.ValueType
	desc  *prometheus.Desc
}

// samples implements prometheus.Collector for structs of plain numbers.
type samples[T any] struct {
	each   func(yield func(T))
	key    int // the field that holds the label's value, -1 where there is one struct only
	series []series
}

// Describe implements prometheus.Collector.
func (s *samples[T]) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range s.series {
		ch <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (s *samples[T]) Collect(ch chan<- prometheus.Metric) {
	s.each(func(sample T) {
		v := reflect.ValueOf(sample)
		var key []string
		if s.key >= 0 {
			key = []string{v.Field(s.key).String()}
		}
		for _, m := range s.series {
			field := v.Field(m.field)
			if field.Kind() != reflect.Map {
				ch <- prometheus.MustNewConstMetric(m.desc, m.kind, number(field), key...)
				continue
			}
			for at := field.MapRange(); at.Next(); {
				ch <- prometheus.MustNewConstMetric(m.desc, m.kind, number(at.Value()), append(slices.Clone(key), at.Key().String())...)
			}
		}
	})
}

// number is the value of a metric that a field holds.
func number(v reflect.Value) float64 {
	switch {
	case v.Type() == reflect.TypeFor[time.Duration]():
		return time.Duration(v.Int()).Seconds()
	case v.CanUint():
		return float64(v.Uint())
	case v.CanInt():
		return float64(v.Int())
	case v.Kind() == reflect.Bool && !v.Bool():
		return 0
	case v.Kind() == reflect.Bool:
		return 1
	}
	return v.Float()
}
