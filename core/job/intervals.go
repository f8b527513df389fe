package job

import (
	"strconv"
	"strings"
)

// interval is a range of completion indexes, both ends included.
type interval struct{ first, last int }

// intervals are completion indexes in order, as status.completedIndexes has them: indexed_job_utils.go orderedIntervals.
type intervals []interval

// with returns the intervals with indexes added, which are in order: withOrderedIndexes.
func (iv intervals) with(indexes []int) intervals {
	added := make(intervals, len(indexes))
	for i, ix := range indexes {
		added[i] = interval{ix, ix}
	}
	return iv.merge(added)
}

// merge returns the union.
func (iv intervals) merge(other intervals) intervals {
	var out intervals
	add := func(next interval) {
		switch last := len(out) - 1; {
		case last < 0 || next.first > out[last].last+1:
			out = append(out, next)
		case out[last].last < next.last:
			out[last].last = next.last
		}
	}
	i, j := 0, 0
	for i < len(iv) && j < len(other) {
		if iv[i].first < other[j].first {
			add(iv[i])
			i++
		} else {
			add(other[j])
			j++
		}
	}
	for ; i < len(iv); i++ {
		add(iv[i])
	}
	for ; j < len(other); j++ {
		add(other[j])
	}
	return out
}

// total is the number of indexes.
func (iv intervals) total() int {
	count := 0
	for _, i := range iv {
		count += i.last - i.first + 1
	}
	return count
}

func (iv intervals) String() string {
	var text strings.Builder
	for _, i := range iv {
		if text.Len() > 0 {
			text.WriteByte(',')
		}
		text.WriteString(strconv.Itoa(i.first))
		switch {
		case i.last == i.first+1:
			text.WriteString("," + strconv.Itoa(i.last))
		case i.last > i.first:
			text.WriteString("-" + strconv.Itoa(i.last))
		}
	}
	return text.String()
}

// has reports whether an index is among them.
func (iv intervals) has(ix int) bool {
	low, high := 0, len(iv)
	for high > low { // iv[high].last >= ix
		if mid := low + (high-low)/2; iv[mid].last >= ix {
			high = mid
		} else {
			low = mid + 1
		}
	}
	return high < len(iv) && iv[high].first <= ix
}

// parseIndexes reads what String writes, up to completions, and passes over what is corrupt: parseIndexesFromString.
func parseIndexes(text string, completions int) intervals {
	if text == "" {
		return nil
	}
	var out intervals
	for part := range strings.SplitSeq(text, ",") {
		from, to, isRange := strings.Cut(part, "-")
		first, err := strconv.Atoi(from)
		if err != nil {
			continue
		}
		if first >= completions {
			break
		}
		next := interval{first, first}
		if isRange {
			to, _, _ = strings.Cut(to, "-")
			if next.last, err = strconv.Atoi(to); err != nil {
				continue
			}
			next.last = min(next.last, completions-1)
		}
		if last := len(out) - 1; last >= 0 && out[last].last == next.first-1 {
			out[last].last = next.last
		} else {
			out = append(out, next)
		}
	}
	return out
}
