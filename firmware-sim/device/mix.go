package device

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// A Mix says in which proportions several kinds of a thing occur. An empty Mix
// stands for the default that its field in Options names.
type Mix []Share

// A Share is one kind and its weight among the others.
type Share struct {
	Name   string
	Weight int
}

// ParseMix reads "a:10,b:60,c:30", or the same with "="; a kind without a weight counts 1. Each kind
// has to be one of known, and at least one weight must not be 0.
func ParseMix(text string, known ...string) (Mix, error) {
	var mix Mix
	total := 0
	for part := range strings.SplitSeq(text, ",") {
		name, weight, weighted := strings.Cut(strings.ReplaceAll(strings.TrimSpace(part), "=", ":"), ":")
		share := Share{Name: name, Weight: 1}
		if weighted {
			n, err := strconv.Atoi(weight)
			if err != nil || n < 0 || n > 1_000_000 {
				return nil, fmt.Errorf("weight %q of %q is not a number from 0 to 1000000", weight, name)
			}
			share.Weight = n
		}
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("%q is none of %s", name, strings.Join(known, ", "))
		}
		mix = append(mix, share)
		total += share.Weight
	}
	if total == 0 {
		return nil, fmt.Errorf("all weights in %q are 0", text)
	}
	return mix, nil
}

// at returns the kind that stands at a place, from 0 to 1, of the mix.
func (m Mix) at(place float64) string {
	total := 0
	for _, s := range m {
		total += s.Weight
	}
	left := int(place * float64(total))
	for _, s := range m {
		if left < s.Weight {
			return s.Name
		}
		left -= s.Weight
	}
	return m[len(m)-1].Name
}

// has says whether a kind occurs.
func (m Mix) has(name string) bool {
	return slices.ContainsFunc(m, func(s Share) bool { return s.Name == name && s.Weight > 0 })
}

// pick draws a kind.
func (m Mix) pick(rng *rand.Rand) string { return m.at(rng.Float64()) }

// spread gives device n its kind, the same each time, so that even a few
// devices show the proportions. Mixes with another step are independent.
func (m Mix) spread(n int, step float64) string {
	_, place := math.Modf((float64(n) + 0.5) * step)
	return m.at(place)
}

// Steps of the plastic number: multiples of one fill the line evenly, pairs of
// multiples the square. The profile has that of the golden ratio.
const (
	profileStep = 0.6180339887498949
	versionStep = 0.7548776662466927
	shapeStep   = 0.5698402909980532
)
