//! Response times of an ideal server, the M/D/1 queue: Poisson arrivals, one service time, one server.
//!
//! A. K. Erlang found the distribution of its waiting time in 1909. His sum alternates, with terms that outgrow what they
//! sum to; here is the form of G. J. Franx (A simple solution for the M/D/c waiting time distribution, 2001), in which
//! every term is positive.

/// The highest supported utilization: beyond it the queue is too long to compute.
const HIGHEST_RHO: f64 = 0.9999;

/// The highest supported quantile: beyond it sums of doubles are not exact enough.
const HIGHEST_QUANTILE: f64 = 1.0 - 1e-9;

/// Poisson terms that matter, for a mean of at most 1: the next is below 1e-32.
const POISSON_TERMS: usize = 30;

/// The response time, in seconds, that a share `quantile` of the requests does not exceed, when requests of `service_s` seconds
/// keep the server busy for a share `rho` of the time. `None` for a `rho` outside 0 to 0.9999 or a quantile outside 0 to 1 -
/// 1e-9.
pub fn response_quantile(rho: f64, service_s: f64, quantile: f64) -> Option<f64> {
    let is_supported = (0.0..=HIGHEST_RHO).contains(&rho) && (0.0..=HIGHEST_QUANTILE).contains(&quantile);
    is_supported.then(|| service_s * (1.0 + wait_quantile(rho, quantile)))
}

/// The mean response time in seconds, by the formula of F. Pollaczek (1930) and A. Y. Khinchin (1932). `None` for a `rho`
/// outside 0 to 0.9999.
pub fn response_mean(rho: f64, service_s: f64) -> Option<f64> {
    (0.0..=HIGHEST_RHO).contains(&rho).then(|| service_s * (1.0 + rho / (2.0 * (1.0 - rho))))
}

/// The quantile of the waiting time, in service times.
fn wait_quantile(rho: f64, quantile: f64) -> f64 {
    let at_most = queue_up_to(rho, quantile);
    let whole = at_most.len() - 2;
    let (mut low, mut high) = (0.0, 1.0);
    if wait_probability(rho, &at_most, 0.0) >= quantile {
        return whole as f64;
    }
    while high - low > 1e-12 {
        let middle = (low + high) / 2.0;
        if wait_probability(rho, &at_most, middle) < quantile { low = middle } else { high = middle }
    }
    whole as f64 + high
}

/// The probability that a request waits at most `part` (0 to 1) of a service time more than the whole service times that
/// `at_most` covers.
///
/// A request that waits no longer than `whole + part` arrives at a queue that is served by then: if `j` more requests arrive in
/// the remainder of the last service time, of mean length `rho * (1 - part)`, at most `whole + 1 - j` were there.
fn wait_probability(rho: f64, at_most: &[f64], part: f64) -> f64 {
    let arrivals = poisson(rho * (1.0 - part));
    at_most[1..].iter().rev().zip(arrivals).map(|(at_most, arrivals)| at_most * arrivals).sum()
}

/// The probabilities that at most 0, 1, 2 ... requests are in the system, up to the first (but no less than the second)
/// that reaches `quantile`.
///
/// Each level is left downwards as often as upwards (H. C. Tijms, A First Course in Stochastic Models, 2003, chapter 9): a
/// recursion of positive terms only.
fn queue_up_to(rho: f64, quantile: f64) -> Vec<f64> {
    let arrivals = poisson(rho);
    let more_arrivals: Vec<f64> = (0..POISSON_TERMS).map(|k| arrivals[k + 1..].iter().rev().sum()).collect();
    let mut exactly = vec![1.0 - rho];
    let mut at_most = vec![1.0 - rho];
    while at_most.len() < 2 || at_most[at_most.len() - 1] < quantile {
        let level = exactly.len();
        let from_empty = exactly[0] * more_arrivals.get(level - 1).copied().unwrap_or(0.0);
        let from_others: f64 = exactly[1..].iter().rev().zip(&more_arrivals[1..]).map(|(p, more)| p * more).sum();
        exactly.push((from_empty + from_others) / arrivals[0]);
        at_most.push(at_most[level - 1] + exactly[level]);
    }
    at_most
}

/// The probabilities of 0, 1, 2 ... Poisson arrivals.
fn poisson(mean: f64) -> [f64; POISSON_TERMS] {
    let mut probability = (-mean).exp();
    std::array::from_fn(|arrivals| {
        if arrivals > 0 {
            probability *= mean / arrivals as f64;
        }
        probability
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};

    use super::*;

    /// Erlang's alternating sum, which is exact enough for short waits.
    fn erlang(rho: f64, wait: f64) -> f64 {
        let term = |k: i32| {
            let z = rho * (wait - f64::from(k));
            z.exp() * (1..=k).fold(1.0, |product, i| product * -z / f64::from(i))
        };
        (1.0 - rho) * (0..=wait.floor() as i32).map(term).sum::<f64>()
    }

    #[test]
    fn quantiles_agree_with_erlangs_sum() {
        for rho in [0.3, 0.5, 0.8, 0.95] {
            for wait in [0.3, 0.999, 1.5, 2.25, 5.75, 8.0] {
                let response = response_quantile(rho, 2.0, erlang(rho, wait)).unwrap();
                assert!((response - 2.0 * (1.0 + wait)).abs() < 1e-6, "rho {rho}, wait {wait}: {response}");
            }
        }
    }

    #[test]
    fn a_request_to_an_idle_server_does_not_wait() {
        assert_eq!(response_quantile(0.3, 0.001, 0.7), Some(0.001));
        assert!(response_quantile(0.3, 0.001, 0.71).unwrap() > 0.001);
        assert_eq!(response_quantile(0.0, 0.001, 0.999), Some(0.001));
        assert_eq!(response_mean(0.5, 0.002), Some(0.003));
    }

    #[test]
    fn simulated_waits_agree() {
        const REQUESTS: usize = 500_000;
        for rho in [0.3, 0.5, 0.7, 0.8] {
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(5);
            let mut wait = 0.0_f64;
            let mut responses: Vec<f64> = (0..REQUESTS)
                .map(|_| {
                    wait = (wait + 1.0 + (1.0 - rng.random::<f64>()).ln() / rho).max(0.0);
                    1.0 + wait
                })
                .collect();
            let mean = responses.iter().sum::<f64>() / REQUESTS as f64;
            let expected = response_mean(rho, 1.0).unwrap();
            assert!((mean / expected - 1.0).abs() < 0.02, "rho {rho}: mean {mean}, expected {expected}");
            for quantile in [0.5, 0.9, 0.99] {
                let rank = (quantile * REQUESTS as f64) as usize;
                let simulated = *responses.select_nth_unstable_by(rank, f64::total_cmp).1;
                let expected = response_quantile(rho, 1.0, quantile).unwrap();
                assert!((simulated / expected - 1.0).abs() < 0.02, "rho {rho}, {quantile}: {simulated}, expected {expected}");
            }
        }
    }

    #[test]
    fn long_queues_agree_with_heavy_traffic() {
        // Near saturation waits are exponential, with the mean of all waits (J. F. C. Kingman, 1961).
        let response = response_quantile(0.999, 1.0, 0.9999).unwrap();
        let heavy_traffic = 0.999 / (2.0 * 0.001) * 1e4_f64.ln();
        assert!((response / heavy_traffic - 1.0).abs() < 0.01, "{response}, expected {heavy_traffic}");
        assert!(response_quantile(HIGHEST_RHO, 1.0, HIGHEST_QUANTILE).unwrap().is_finite());
    }

    #[test]
    fn unsupported_arguments_give_none() {
        for (rho, quantile) in [(1.0, 0.5), (-0.1, 0.5), (f64::NAN, 0.5), (0.5, 1.0), (0.5, -0.1), (0.5, f64::NAN)] {
            assert_eq!(response_quantile(rho, 1.0, quantile), None);
        }
        assert_eq!(response_mean(1.0, 1.0), None);
    }

    proptest! {
        #[test]
        fn more_load_and_higher_quantiles_take_longer(rho in 0.0..0.97, quantile in 0.0..0.998, more in 0.0001..0.002) {
            let response = response_quantile(rho, 1.0, quantile).unwrap();
            prop_assert!(response_quantile(rho + more, 1.0, quantile).unwrap() >= response - 1e-9);
            prop_assert!(response_quantile(rho, 1.0, quantile + more / 2.0).unwrap() >= response - 1e-9);
        }
    }
}
